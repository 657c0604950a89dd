// Package config turns harouter.yaml and the key file into typed settings.
//
// It owns the format of both files: all keys and their defaults (DESIGN.md §3),
// every rule that can be judged from the file alone, and the wording of each
// problem with its line, column and excerpt. It is the only package that knows
// YAML, and hands out plain structs of netip and time values.
//
// Of ours it imports only pure packages: vrrp, for the link-local address of a
// virtual router of IPv6, and balancer, for what a policy is. cmd/harouter converts
// these settings into each package's own Config. It looks at no device, address or
// clock of the machine; what `check` says about missing devices is said by its
// caller.
//
// How to read it: config.go and its siblings have the whole format as types,
// defaults.go every default. source.go and tree.go take bytes to a tree of
// values (tree.go alone imports the YAML library), decode.go and values.go are
// the small language in which the read_*.go files, one for each part of the
// file, read that tree. check.go compares things that stand apart. key.go is
// the key file.
//
// It writes files too: starter.go the first one of a cluster, edit.go a node into
// the text of one or out of it, by the places that layout.go finds. Both read
// what they wrote back before anybody else does.
//
// Its sub-package importer writes a file from that of another program.
//
// settings.go lists every key for the manual: the reading code itself says which
// there are and their defaults; manual.go has the words. Who adds a key adds its
// words there, else a test fails.
package config
