// Package vrrp speaks the Virtual Router Redundancy Protocol: the codec of its
// packets (RFC 9568, version 3) and the machine that elects a master.
//
// It is pure: no sockets, no clock, no I/O, no log. Time comes as an argument
// and the Machine tells its next deadline. It imports nothing of ours. Sockets
// are in vrrp/wire, addresses in vrrp/vip; package ha drives the Machine.
package vrrp
