package gossip

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Run takes part until ctx ends, then leaves, which takes a second at most.
// Own addresses that are not on this machine yet are waited for, each for
// itself. It returns an error for a port that is taken when it begins, and for
// a Config that cannot work.
func (g *Gossip) Run(ctx context.Context) error {
	if err := g.roster.Load().cfg.check(); err != nil {
		return err
	}
	for first := true; ctx.Err() == nil; first = false {
		if err := g.takePart(ctx, first); err != nil {
			return err
		}
	}
	return nil
}

// takePart is a member until ctx ends, or until the cluster's label or its keys
// change: memberlist has them for life.
func (g *Gossip) takePart(ctx context.Context, first bool) error {
	r := g.roster.Load()
	t, err := newTransport(g, &r.cfg)
	if err != nil {
		return err
	}
	missing, err := t.bind(ctx, r)
	if err != nil && first && ctx.Err() == nil {
		return errors.Join(err, t.Shutdown())
	}
	d := &delegate{g}
	settings, err := g.library(&r.cfg, t, d)
	if err != nil {
		return errors.Join(err, t.Shutdown())
	}
	g.follow(d)
	list, err := memberlist.Create(settings)
	if err != nil {
		return errors.Join(fmt.Errorf("start memberlist: %w", err), t.Shutdown())
	}
	g.list.Store(list)
	g.way.Store(t)
	c := company{g: g, list: list, serving: map[*peer]context.CancelFunc{}}
	for {
		c.serve(ctx, r)
		var again <-chan time.Time
		if missing {
			again = time.After(bindEvery)
		}
		select {
		case <-ctx.Done():
			return c.leave(true)
		case <-g.changed:
		case <-again:
		}
		now := g.roster.Load()
		if !r.cfg.sameCluster(&now.cfg) {
			return c.leave(false)
		}
		r = now
		missing, _ = t.bind(ctx, r) // which logs what is wrong
	}
}

// company is the goroutines that look after the peers, two for each.
type company struct {
	g       *Gossip
	list    *memberlist.Memberlist
	serving map[*peer]context.CancelFunc
	wg      sync.WaitGroup
}

// serve looks after the peers of r and no others.
func (c *company) serve(ctx context.Context, r *roster) {
	for p, stop := range c.serving {
		if r.peers[p.name] != p {
			stop()
			delete(c.serving, p)
			c.g.forget(p)
		}
	}
	for _, p := range r.peers {
		if c.serving[p] != nil {
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		c.serving[p] = stop
		c.g.greet(p)
		c.wg.Go(func() { c.g.tend(ctx, c.list, p) })
		c.wg.Go(func() { c.g.deliver(ctx, c.list, p) })
	}
}

// leave tells the others and ends memberlist. For good means that there are no
// more events; else all members are told of as gone.
func (c *company) leave(forGood bool) error {
	for _, stop := range c.serving {
		stop()
	}
	c.wg.Wait()
	g := c.g
	if err := c.list.Leave(leaveWithin); err != nil {
		g.log.Debug("leave", "error", err)
	}
	g.list.Store(nil)
	g.way.Store(nil)
	g.mu.Lock()
	g.done = forGood
	g.mu.Unlock()
	err := c.list.Shutdown()
	g.follow(nil)
	if !forGood {
		for p := range c.serving {
			g.forget(p)
		}
	}
	return err
}
