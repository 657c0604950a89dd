// Package shrink makes a script that fails shorter, until each line and each
// figure left in it is needed for the failure. The simulators of vrrp and ha use
// it: what they find is kept as a text file that a person can read and a test
// replays. It also plays their seeds.
package shrink
