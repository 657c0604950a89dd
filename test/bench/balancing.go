package main

import (
	"errors"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// balancing are the routers that are measured with as many policies: ours in a
// pair and alone, the peer's rules alone and in two pairs, whose second router
// keeps what it is told in a cache, or has it in its kernel.
type balancing struct {
	ours, alone         *site.Cluster
	rules, cache, table *netlab.Site
}

func newBalancing(n int) (_ *balancing, err error) {
	b := &balancing{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	o := netlab.PairOptions{WANOwn: true}
	if b.ours, err = cluster(o, "cluster: home\n", "cluster: home\n"+ourPolicies(n)); err != nil {
		return b, err
	}
	if b.alone, err = cluster(o, "  r2: {address: 192.0.2.2, priority: 150}\n", "", "cluster: home\n", "cluster: home\n"+ourPolicies(n)); err != nil {
		return b, err
	}
	for _, s := range []**netlab.Site{&b.rules, &b.cache, &b.table} {
		if *s, err = newSite(o); err != nil {
			return b, err
		}
		if err = iptables((*s).Router("r1"), n); err != nil {
			return b, err
		}
	}
	for s, direct := range map[*netlab.Site]string{b.cache: "Off", b.table: "On"} {
		if err = told(s, n, direct); err != nil {
			return b, err
		}
	}
	if err = errors.Join(b.ours.Up("r1", "r2"), b.alone.Up("r1")); err != nil {
		return b, err
	}
	for _, s := range b.sites() {
		if err = sinks(s); err != nil {
			return b, err
		}
	}
	return b, b.ours.Wait("the second node is told", "r1", 10*time.Second, func(s ha.Status) bool {
		return len(s.ConntrackSync.Peers) == 1 && s.ConntrackSync.Peers[0].State == ha.SyncSynced
	})
}

// told has conntrackd run on a router of iptables and on a second one.
func told(s *netlab.Site, n int, direct string) error {
	p := &theirPair{Site: s, sync: map[string]*netlab.Process{}}
	r2 := s.Router("r2")
	// Without NAT of its own it could not take what is translated.
	if _, err := r2.ExecInput(iptablesRules(n), tool("iptables-restore")); err != nil {
		return err
	}
	for _, name := range []string{"r1", "r2"} {
		if err := errors.Join(p.configure(name, direct), p.startSync(name)); err != nil {
			return err
		}
	}
	return nil
}

func (b *balancing) sites() (all []*netlab.Site) {
	for _, c := range []*site.Cluster{b.ours, b.alone} {
		if c != nil {
			all = append(all, c.Site)
		}
	}
	for _, s := range []*netlab.Site{b.rules, b.cache, b.table} {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

func (b *balancing) close() (err error) {
	for _, s := range b.sites() {
		err = errors.Join(err, s.Close())
	}
	return err
}
