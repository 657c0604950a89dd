// Package manual writes the manual pages: one for each command from its own
// help, and harouter.yaml(5) from the keys of the configuration file.
//
// It is pure (text in, text out) and imports no other package of ours; the
// hidden verb `man` of cmd/harouter feeds it and writes the files. roff.go is
// the little of man(7) that is needed.
package manual
