package vip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// check fills in what is not set and says what cannot be.
func (c *Config) check() error {
	if c.Timing.Refresh <= 0 {
		c.Timing = DefaultTiming
	}
	for _, v := range c.MACs {
		if len(v.Name) > 15 || len(v.MAC) != 6 {
			return fmt.Errorf("set up the virtual MAC on %s: %q with %v is no device", v.Parent, v.Name, v.MAC)
		}
	}
	return nil
}

// adopt makes a configuration the one that counts. The caller holds mu, or is
// New.
func (k *Keeper) adopt(cfg Config) {
	cfg.Addresses, cfg.Own, cfg.MACs = slices.Clone(cfg.Addresses), slices.Clone(cfg.Own), slices.Clone(cfg.MACs)
	k.cfg = cfg
	k.shown.Store(&cfg.Addresses)
	k.series.timing = cfg.Timing
	k.devices = nil
	for _, a := range cfg.Addresses {
		k.devices = append(k.devices, a.Device)
	}
	for _, o := range cfg.Own {
		k.devices = append(k.devices, o.Device)
	}
	slices.Sort(k.devices)
	k.devices = slices.Compact(k.devices)
}

// Configure replaces Addresses, Own, MACs and Timing; the functions and the log stay
// as New got them. While addresses are held, new ones are put on and announced
// before those that are gone are taken away; the others are not touched. While
// they are not, nothing is added, and what is gone is taken away if it is found.
// Own addresses of before go at once, those of now come with the next look of
// Run. An error of the configuration changes nothing; other errors tell what
// could not be done, and the new settings count all the same: Run goes on trying
// to put on what lacks.
func (k *Keeper) Configure(ctx context.Context, cfg Config) error {
	if err := cfg.check(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	old := k.cfg
	k.adopt(cfg)
	for name := range k.state {
		if !slices.Contains(k.devices, name) { // should it come back, it is a new one
			delete(k.state, name)
			k.forgetOwn(name)
		}
	}
	var failed error
	if k.held {
		failed = k.addNew(ctx, k.stay(old))
	}
	var gone, elsewhere []Address
	for _, a := range old.Addresses {
		switch {
		case k.has(func(b Address) bool { return a.spot() == b.spot() }):
		case k.has(func(b Address) bool { return a.Device == b.Device && a.Prefix.Addr() == b.Prefix.Addr() }):
			elsewhere = append(elsewhere, a) // another prefix length: only this one goes
			delete(k.lost, a.spot())
		default:
			gone = append(gone, a)
			delete(k.lost, a.spot())
		}
	}
	failed = errors.Join(failed, remove(k.nl, elsewhere, !k.held))
	if len(gone) > 0 {
		failed = errors.Join(failed, removeEvery(k.nl, gone, !k.held))
	}
	failed = errors.Join(failed, k.swapOwn(old.Own), k.dropMACs())
	poke(k.kick)
	return failed
}

// stay are the old addresses but those whose device is made anew: another MAC
// takes them along.
func (k *Keeper) stay(old Config) []Address {
	return slices.DeleteFunc(slices.Clone(old.Addresses), func(a Address) bool {
		now, made := k.mac(a.Device)
		return made && !slices.ContainsFunc(old.MACs, func(was VirtualMAC) bool {
			return was.Name == now.Name && was.Parent == now.Parent && bytes.Equal(was.MAC, now.MAC)
		})
	})
}

func (k *Keeper) has(f func(Address) bool) bool { return slices.ContainsFunc(k.cfg.Addresses, f) }

// addNew puts on what was not among the old addresses, and announces it.
func (k *Keeper) addNew(ctx context.Context, old []Address) error {
	var failed error
	links := map[string]netlink.Link{}
	var on []Address
	there := k.there6()
	for _, a := range k.cfg.Addresses {
		if slices.ContainsFunc(old, func(b Address) bool { return a.spot() == b.spot() }) {
			continue
		}
		if err := ctx.Err(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("add %v: %w", a, err))
			break
		}
		if err := k.putOn(links, there, a); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		on = append(on, a)
	}
	failed = errors.Join(failed, k.raise(links))
	k.announceAll(links, on)
	if len(on) > 0 {
		k.series.start(time.Now())
	}
	return failed
}

// swapOwn takes the own addresses away that are none any more. Where another
// one takes the place of one that is set, it comes first, so that adverts
// always have a source.
func (k *Keeper) swapOwn(old []OwnAddress) error {
	var gone []OwnAddress
	for _, o := range old {
		if !slices.ContainsFunc(k.cfg.Own, func(n OwnAddress) bool { return n.Device == o.Device && n.Prefix == o.Prefix }) {
			gone = append(gone, o)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	addrs, err := list(k.nl)
	if err != nil {
		return err
	}
	var failed error
	for _, o := range gone {
		link, err := k.nl.LinkByName(o.Device)
		if err != nil || !present(addrs, link.Attrs().Index, o.Prefix) {
			continue // nothing is set there
		}
		for _, n := range k.cfg.Own {
			if n.Device == o.Device && n.Prefix.Addr().Is4() == o.Prefix.Addr().Is4() {
				failed = errors.Join(failed, put(k.nl, link, n.Prefix, netlink.SCOPE_LINK, nil))
			}
		}
		if err := take(k.nl, link, o.Prefix); err != nil {
			failed = errors.Join(failed, fmt.Errorf("remove the own address %v from %s: %w", o.Prefix, o.Device, err))
		}
	}
	return failed
}
