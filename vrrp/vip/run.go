package vip

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	lookEvery = 10 * time.Second // should an event have been missed
	ownEvery  = time.Second      // an own address is set no more often than this
)

// device is what was last seen of one.
type device struct {
	index  int
	parent int // of a device that we made
	up     bool
	mac    string
	arp    bool // somebody there resolves addresses
}

// Run announces again, looks after devices that come and puts back what others
// remove, until ctx ends. What is on the devices then stays.
func (k *Keeper) Run(ctx context.Context) error {
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.arp.close()
	}()
	watch := newWatch()
	defer watch.close()
	look := k.look(time.Now())
	k.settleWatch(watch, time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := time.Until(look)
		if at, ok := k.announceAt(); ok {
			wait = min(wait, time.Until(at))
		}
		if at, ok := watch.watchAt(); ok {
			wait = min(wait, time.Until(at))
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return nil
		case <-k.kick:
			look = k.look(time.Now())
			k.settleWatch(watch, time.Now())
		case <-k.again:
			k.begin(time.Now())
			k.settleWatch(watch, time.Now())
		case s := <-watch.heard:
			k.hear(watch, s, time.Now())
		case <-timer.C:
			now := time.Now()
			if at, ok := k.announceAt(); ok && !now.Before(at) {
				k.repeat(now)
			}
			if !now.Before(look) {
				look = k.look(now)
				k.settleWatch(watch, now)
			}
			if at, ok := watch.watchAt(); ok && !now.Before(at) {
				k.ask(watch, now)
			}
		}
	}
}

// announceAt is when held addresses are announced next.
func (k *Keeper) announceAt() (time.Time, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.series.next(), k.held
}

// begin announces at once, as the deciding loop says, and begins a new series.
func (k *Keeper) begin(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.turns++ // another one had them, or still has for a moment
	k.series.start(now)
	k.burst()
}

// repeat goes on with a series.
func (k *Keeper) repeat(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.series.step(now)
	if k.mayRepair() {
		k.burst()
	}
}

// burst announces what is held and there: the guard may have taken it away
// while this process slept, and then it is another's. The caller holds mu.
func (k *Keeper) burst() {
	if !k.held {
		return
	}
	addrs, err := list(k.nl)
	if err != nil {
		k.log.Warn("announce", "reason", err)
		return
	}
	links := map[string]netlink.Link{}
	for _, a := range k.cfg.Addresses {
		link, err := k.link(links, a.Device)
		if err == nil && present(addrs, link.Attrs().Index, a.Prefix) {
			k.arp.announce(link, a)
		}
	}
}

// look gives every device what it should have, and tells when to look again.
func (k *Keeper) look(now time.Time) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	addrs, err := list(k.nl)
	if err != nil {
		k.log.Warn("look after addresses", "reason", err)
		return now.Add(lookSoon)
	}
	next := now.Add(lookEvery)
	fresh := false
	clear(k.there)
	k.makeMACs()
	for _, name := range k.devices {
		link, err := k.nl.LinkByName(name)
		if err != nil {
			delete(k.state, name)
			k.forgetOwn(name)
			continue
		}
		before := k.state[name]
		k.prepare(name, link)
		attrs := link.Attrs()
		k.state[name] = seen(link)
		fresh = fresh || k.state[name].up && before != k.state[name]

		on := slices.DeleteFunc(slices.Clone(addrs), func(a netlink.Addr) bool { return a.LinkIndex != attrs.Index })
		if again := k.own(name, link, on, now); again.Before(next) && !again.IsZero() {
			next = again
		}
		if !k.held {
			if again := k.lower(link, on, now); again.Before(next) && !again.IsZero() {
				next = again
			}
			continue
		}
		for _, a := range k.cfg.Addresses {
			if a.Device != name {
				continue
			}
			if again := k.mend(a, link, on, came(before, link), now); !again.IsZero() && again.Before(next) {
				next = again
			}
		}
	}
	if fresh && k.held { // a switch that was gone has forgotten where we are; a MAC may be a new one
		k.series.start(now)
		if k.mayRepair() {
			k.burst()
		}
	}
	return next
}

// came tells whether a device is a new one. Of those that we make only one that
// came with its parent is: any other was taken away by somebody.
func came(before device, now netlink.Link) bool {
	a := now.Attrs()
	if isOurs(now) && before.index != 0 && before.parent == a.ParentIndex {
		return false
	}
	return before.index != a.Index
}

// prepare sets up a device that was not known, or is another one than before.
func (k *Keeper) prepare(name string, link netlink.Link) {
	if d := k.state[name]; d.index == link.Attrs().Index {
		return
	}
	if err := promote(name); err != nil {
		k.log.Warn("switch promote_secondaries on", "device", name, "reason", err)
	}
	k.state[name] = seen(link)
}

func seen(link netlink.Link) device {
	a := link.Attrs()
	return device{
		index: a.Index, parent: a.ParentIndex, up: a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0,
		mac: string(a.HardwareAddr), arp: speaksARP(link),
	}
}

// own sets the link-local addresses of a device that has no permanent one, and
// takes them away from one that has got another. It tells when to try again.
func (k *Keeper) own(name string, link netlink.Link, on []netlink.Addr, now time.Time) (again time.Time) {
	for _, o := range k.cfg.Own {
		if o.Device != name {
			continue
		}
		if at := k.ownOne(o, link, on, now); !at.IsZero() && (again.IsZero() || at.Before(again)) {
			again = at
		}
	}
	return again
}

func (k *Keeper) ownOne(o OwnAddress, link netlink.Link, on []netlink.Addr, now time.Time) (again time.Time) {
	has, set := false, false
	for _, a := range on {
		switch p := prefix(a); {
		case p == o.Prefix:
			set = true
		case p.Addr().Is4() != o.Prefix.Addr().Is4() || p.Addr().Is6() && !p.Addr().IsLinkLocalUnicast():
			// It is no use for adverts of that family.
		case !k.virtual(o, p.Addr()) && a.Flags&unix.IFA_F_PERMANENT != 0 && a.Flags&unix.IFA_F_DADFAILED == 0:
			has = true
		}
	}
	at := spot{o.Device, o.Prefix}
	var err error
	switch {
	case !has && !set:
		if o.Prefix.Addr().Is6() && !seen(link).up { // the kernel's own one comes with the carrier
			return time.Time{}
		}
		if next := k.ownAt[at].Add(ownEvery); now.Before(next) { // somebody takes it away each time
			return next
		}
		k.ownAt[at] = now
		err = put(k.nl, link, o.Prefix, netlink.SCOPE_LINK, nil)
	case has && set:
		err = take(k.nl, link, o.Prefix)
	}
	text := ""
	if err != nil && !missing(err) {
		text = err.Error()
	}
	if text != "" && text != k.unset[at] {
		k.log.Warn("set the own address", "address", o.Prefix, "device", o.Device, "reason", text)
	}
	k.unset[at] = text
	return time.Time{}
}

// forgetOwn forgets what was done about the own addresses of a device.
func (k *Keeper) forgetOwn(device string) {
	maps.DeleteFunc(k.ownAt, func(at spot, _ time.Time) bool { return at.device == device })
	maps.DeleteFunc(k.unset, func(at spot, _ string) bool { return at.device == device })
}

// virtual tells whether an address is one of the virtual ones.
func (k *Keeper) virtual(o OwnAddress, ip netip.Addr) bool {
	return slices.ContainsFunc(o.Virtual, func(p netip.Prefix) bool { return p.Addr() == ip }) ||
		slices.ContainsFunc(k.cfg.Addresses, func(a Address) bool { return a.Prefix.Addr() == ip })
}
