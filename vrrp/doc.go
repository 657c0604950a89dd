// Package vrrp speaks the Virtual Router Redundancy Protocol: the codec of its
// packets (RFC 9568, version 3, and RFC 3768, version 2 with the password of
// RFC 2338) and the machine that elects a master; besides, how neighbours are
// asked for over IPv6 (RFC 4861). ledger_test.go lists the clauses, each with the
// tests that hold it; world_test.go plays whole elections in virtual time, from
// scripts in testdata/election or of its own making.
//
// It is pure: no sockets, no clock, no I/O, no log. Time comes as an argument
// and the Machine tells its next deadline. It imports nothing of ours. Sockets
// are in vrrp/wire, addresses in vrrp/vip; package ha drives the Machine.
package vrrp
