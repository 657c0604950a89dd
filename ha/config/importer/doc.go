// Package importer makes a configuration file of ours from what another program
// was told: Net-ISP-Balance's balance.conf, and the rule files and scripts that
// stand beside it.
//
// It owns what is known about those formats, their units and their defaults, and
// says where each value came from. It reads no file, device or clock: cmd/harouter
// hands over the texts and what the machine has, and writes the result. Of ours it
// imports ha/config, of which it is a part, and has it read what was written: what
// it refuses (IPv6 where it is not taken, networks that overlap) becomes a comment
// with the reason, so that the file is one that the daemon takes.
//
// How to read it: input.go has the call. conf.go reads balance.conf, option.go its
// lsm options. rules.go goes through the files beside it: shell.go splits their
// lines, iptables.go and route.go translate them, perl.go and perl_eval.go read
// the simple ones of the Perl files. lan.go, uplink.go and write.go lay out the
// file, draft.go tries it and turns into comments what is refused.
package importer
