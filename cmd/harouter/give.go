package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"harouter/ha/config"
	"harouter/ha/join"
)

// giveKnown makes the bundle for a router that stands in the file already.
func (d *daemon) giveKnown(_ context.Context, r join.Request) (join.Bundle, error) {
	if err := fits(d.s.file, d.s.node, r); err != nil {
		return join.Bundle{}, err
	}
	text, err := os.ReadFile(d.c.config)
	if err != nil {
		return join.Bundle{}, fmt.Errorf("read the configuration of %s: %w", d.s.node, err)
	}
	if join.Hash(text) != d.s.file.Hash {
		return join.Bundle{}, fmt.Errorf("%s on %s was changed and is not what runs there: restart harouter there, or undo the change, then try again", d.c.config, d.s.node)
	}
	return join.Bundle{Cluster: d.s.file.Cluster, File: text, Key: d.key.Encode(), Generation: 1, Hash: d.s.file.Hash}, nil
}

// fits tells whether a router may come under the name that it gives: one that
// the file has, with the same data where it gives any.
func fits(file *config.Config, issuer string, r join.Request) error {
	i := slices.IndexFunc(file.Nodes, func(n config.Node) bool { return n.Name == r.Node })
	switch {
	case r.Node == issuer:
		return fmt.Errorf("%s is the name of the router that made the ticket: give the new one another with --node", r.Node)
	case i < 0 && len(r.Addresses) == 0:
		return fmt.Errorf("the cluster %s has no node %q: give the new router's address with --address, or the name of one that it has with --node", file.Cluster, r.Node)
	case i < 0:
		return fmt.Errorf("the cluster %s has no node %q: write it into the file on all nodes first", file.Cluster, r.Node)
	}
	n := file.Nodes[i]
	taken := func(what string, has, got any) error {
		return fmt.Errorf("the cluster has a node %s with %s %v, not %v: leave --%s out, or choose another name with --node", n.Name, what, has, got, what)
	}
	if len(r.Addresses) > 0 && !slices.Equal(r.Addresses, n.Addresses) {
		return taken("address", n.Addresses, r.Addresses)
	}
	if r.Priority != 0 && r.Priority != n.Priority {
		return taken("priority", n.Priority, r.Priority)
	}
	for _, link := range slices.Sorted(maps.Keys(r.Devices)) {
		if has, got := file.Device(n.Name, link), r.Devices[link]; has != got {
			return taken("device", link+"="+has, link+"="+got)
		}
	}
	return nil
}
