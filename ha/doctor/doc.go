// Package doctor says what on a machine would break harouter there, and how to
// mend it.
//
// It looks at files only (/proc, /sys, /etc, /run), below a root that tests
// choose, and changes nothing. What has to be tried, asked or heard (kernel
// features, peers, other VRRP speakers) is done by cmd/harouter, which puts its
// findings into the same Report. It imports no other package of ours.
package doctor
