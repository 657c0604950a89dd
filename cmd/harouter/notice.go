package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"harouter/balancer"
	"harouter/balancer/notice"
	"harouter/conntracksync"
	"harouter/conntracksync/kernel"
)

// ended collects the TCP connections that are about to be deleted, to tell their
// hosts if balance.reset_clients is set.
type ended struct {
	d    *daemon
	tell bool
	ends []balancer.Ends
}

func (d *daemon) ended(tell bool) ended {
	return ended{d: d, tell: tell && d.settings().file.Balance.ResetClients}
}

func (e *ended) add(f *conntracksync.Flow) {
	if !e.tell || len(e.ends) == notice.Most {
		return
	}
	if host, peer, ok := f.Ends(); ok && host.Addr().Is4() {
		e.ends = append(e.ends, balancer.Ends{Host: host, Peer: peer})
	}
}

// done is called once they are deleted. Where one is not after all, what its host
// is provoked to say goes its way.
func (e *ended) done() error {
	err := e.d.plane.Ended(e.ends)
	e.d.notice.Tell(e.ends)
	return err
}

func (d *daemon) deleteFlows(ctx context.Context, id int, mask uint32, tell bool) error {
	mark := balancer.Mark(id, mask)
	e := d.ended(tell)
	if e.tell {
		if err := kernel.Dump(ctx, kernel.Filter{Mark: mark, MarkMask: mask}, func() { e.ends = nil }, e.add); err != nil {
			d.log.part("ha").Warn("hosts are not told that connections of theirs end", "error", err)
		}
	}
	if err := kernel.DeleteByMark(ctx, mark, mask); err != nil {
		return err
	}
	return e.done()
}

// moveFlows deletes the flows that are strays. It does so with a port of its own,
// so that the other nodes are told. Only a master does it.
func (d *daemon) moveFlows(ctx context.Context, s balancer.Strays, mask uint32) error {
	return d.endFlows(ctx, true, func(f *conntracksync.Flow) bool {
		o := f.Original
		return s.Has(balancer.Flow{
			Source: o.Source, Destination: o.Destination, Protocol: uint8(o.Protocol),
			SourcePort: o.SourcePort, DestinationPort: o.DestinationPort, ID: balancer.ID(f.Mark, mask),
		})
	})
}

// dropAddresses deletes the flows that come to an address or go out by it.
func (d *daemon) dropAddresses(ctx context.Context, gone []netip.Addr, tell bool) error {
	return d.endFlows(ctx, tell, func(f *conntracksync.Flow) bool {
		return slices.Contains(gone, f.Original.Destination) || slices.Contains(gone, f.Reply.Destination)
	})
}

// endFlows deletes some flows, with a port of its own.
func (d *daemon) endFlows(ctx context.Context, tell bool, some func(*conntracksync.Flow) bool) error {
	var all []conntracksync.Flow
	err := kernel.Dump(ctx, kernel.Filter{}, func() { all = nil }, func(f *conntracksync.Flow) {
		if some(f) {
			all = append(all, *f)
		}
	})
	if err != nil || len(all) == 0 {
		return err
	}
	i, err := kernel.NewInjector()
	if err != nil {
		return err
	}
	_, err = i.Delete(ctx, all)
	e := d.ended(tell)
	for f := range all {
		e.add(&all[f])
	}
	return errors.Join(err, i.Close(), e.done())
}
