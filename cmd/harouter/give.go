package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"harouter/ha"
	"harouter/ha/config"
	"harouter/ha/join"
)

// give makes the bundle for a new router. One that the file does not have is
// added to it first, on all nodes.
func (d *daemon) give(ctx context.Context, r join.Request) (join.Bundle, error) {
	known, err := fits(d.settings().file, d.settings().node, r)
	if err != nil {
		return join.Bundle{}, err
	}
	if known {
		status, err := d.loop.Status(ctx)
		if err != nil {
			return join.Bundle{}, err
		}
		if err := isElsewhere(status, d.settings().file, r); err != nil {
			return join.Bundle{}, err
		}
	} else {
		add := &ha.Joiner{Name: r.Node, Addresses: r.Addresses, Priority: r.Priority, Devices: r.Devices}
		if err := d.loop.Command(ctx, ha.VerbAddNode, ha.Args{Add: add}); err != nil {
			return join.Bundle{}, err
		}
	}
	s := d.settings()
	return join.Bundle{Cluster: s.file.Cluster, File: s.text, Key: d.key.Encode(), Generation: s.generation, Hash: s.file.Hash}, nil
}

// isElsewhere refuses the name of a router that runs on another machine than the
// one that asks: two of a name would take each other for themselves.
func isElsewhere(s ha.Status, file *config.Config, r join.Request) error {
	for _, n := range s.Nodes {
		i := slices.IndexFunc(file.Nodes, func(has config.Node) bool { return has.Name == n.Name })
		if n.Name == r.Node && n.Alive && i >= 0 && !slices.Contains(file.Nodes[i].Addresses, r.From) {
			return fmt.Errorf("a router %s runs already, at %v, and this one asks from %v: give it another name with --node and its address with --address, or stop the other one first", n.Name, n.Address, r.From)
		}
	}
	return nil
}

// fits tells whether a router may come under the name that it gives, and whether
// the file knows it: with the same data then, where it gives any.
func fits(file *config.Config, issuer string, r join.Request) (known bool, err error) {
	i := slices.IndexFunc(file.Nodes, func(n config.Node) bool { return n.Name == r.Node })
	switch {
	case r.Node == issuer:
		return false, fmt.Errorf("%s is the name of the router that made the ticket: give the new one another with --node", r.Node)
	case i < 0 && len(r.Addresses) == 0:
		return false, fmt.Errorf("the cluster %s has no node %q: give the new router's address with --address, or the name of one that it has with --node", file.Cluster, r.Node)
	case i < 0:
		return false, nil
	}
	n := file.Nodes[i]
	taken := func(what string, has, got any) (bool, error) {
		return true, fmt.Errorf("the cluster has a node %s with %s %v, not %v: leave --%s out, or choose another name with --node", n.Name, what, has, got, what)
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
	return true, nil
}
