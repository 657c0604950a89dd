package wire

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"

	"harouter/vrrp"
)

// change is a configuration on its way to the keeper.
type change struct {
	cfg  Config
	done chan error
}

// Configure replaces all settings but Receive and Log, which stay as New got
// them. It may be called at any time, and returns when the new ones count: the
// next advert carries them, and if adverts are repeated now, one goes out at
// once on every path. The sender never waits for it; sockets of what has not
// changed stay open. An interval that was ordered as the configured one follows
// the configuration. The error says what is wrong, and all goes on as before.
func (t *Transport) Configure(cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	for {
		t.mu.Lock()
		ended := t.ended
		if ended == nil { // nothing is open
			t.adopt(cfg, cfg.paths())
			t.mu.Unlock()
			return nil
		}
		t.mu.Unlock()
		c := change{cfg: cfg, done: make(chan error, 1)}
		select {
		case t.changes <- c:
			return <-c.done
		case <-ended:
		}
	}
}

// change carries a configuration out: all that takes time first, then one
// moment in which the sender gets other packets.
func (t *Transport) change(cfg Config, nl *netlink.Handle, devices *devices, problems *problems) error {
	paths := cfg.paths()
	addrs, err := readAddresses(nl, paths)
	if err != nil {
		return fmt.Errorf("change the VRRP settings: read the addresses: %w", err)
	}
	if err := t.inherit(paths); err != nil {
		return fmt.Errorf("change the VRRP settings: %w", err)
	}
	for _, old := range t.paths {
		if !slices.ContainsFunc(paths, func(p *path) bool { return p.name == old.name }) {
			problems.forget("send to " + old.name)
		}
	}
	own, leads := survey(cfg, paths, addrs, devices)

	t.mu.Lock()
	t.adopt(cfg, paths)
	t.lead(leads)
	t.prompt++
	t.publish()
	t.mu.Unlock()
	t.rouse()
	t.terms.Store(t.cfg.terms(own))
	return nil
}

// inherit gives each path the socket of the one that leads to the same place
// now, else a spare or a new one. The sockets of paths without an heir are not
// closed but become spares: the sender may be about to use them, and a socket
// is good for any path of its kind.
func (t *Transport) inherit(paths []*path) error {
	gone := slices.Clone(t.paths)
	for _, p := range paths {
		if i := slices.IndexFunc(gone, func(old *path) bool { return old.device == p.device && old.dst == p.dst && old.kind() == p.kind() }); i >= 0 {
			p.fd = gone[i].fd
			p.errno.Store(gone[i].errno.Load())
			gone = slices.Delete(gone, i, i+1)
		}
	}
	spare := slices.Clone(t.spare)
	spare = append(spare, gone...)
	var opened []*path
	for _, p := range paths {
		if p.fd >= 0 {
			continue
		}
		if i := slices.IndexFunc(spare, func(s *path) bool { return s.kind() == p.kind() }); i >= 0 {
			p.fd = spare[i].fd
			spare = slices.Delete(spare, i, i+1)
			continue
		}
		if err := p.open(); err != nil {
			for _, p := range opened {
				p.close()
			}
			return err
		}
		opened = append(opened, p)
	}
	t.spare = spare
	return nil
}

// adopt makes a configuration the one that counts. The caller holds mu.
func (t *Transport) adopt(cfg Config, paths []*path) {
	if o := &t.order; o.interval > 0 && (o.interval == t.cfg.Interval || vrrp.CheckInterval(cfg.Version, o.interval) != nil) {
		o.interval = cfg.Interval
	}
	t.cfg, t.paths = cfg, paths
}
