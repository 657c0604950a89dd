package vip

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	lookEvery  = 10 * time.Second       // should an event have been missed
	lookSoon   = 100 * time.Millisecond // while something waits to be put back
	fewRepairs = 5                      // a minute, and after that
	slowRepair = 10 * time.Second       // not before this
	ownEvery   = time.Second            // nor an own address more often than this
)

// device is what was last seen of one.
type device struct {
	index int
	up    bool
}

// loss is an address that is held and not there.
type loss struct {
	since time.Time   // zero: it is there
	fresh bool        // it is the device that came, nobody removed anything
	past  []time.Time // when it was put back, within a minute
}

// series says when held addresses are announced next.
type series struct {
	timing Timing
	begin  time.Time
	done   int // of timing.Bursts
	last   time.Time
}

func (s *series) start(now time.Time) { s.begin, s.done, s.last = now, 0, now }

func (s *series) next() time.Time {
	if s.done < len(s.timing.Bursts) {
		return s.begin.Add(s.timing.Bursts[s.done])
	}
	return s.last.Add(s.timing.Refresh)
}

func (s *series) step(now time.Time) {
	s.last = now
	if s.done < len(s.timing.Bursts) {
		s.done++
	}
}

// Run announces again, looks after devices that come and puts back what others
// remove, until ctx ends. What is on the devices then stays.
func (k *Keeper) Run(ctx context.Context) error {
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.arp.close()
	}()
	look := k.look(time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := time.Until(look)
		if at, ok := k.announceAt(); ok {
			wait = min(wait, time.Until(at))
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return nil
		case <-k.kick:
			look = k.look(time.Now())
		case <-k.again:
			k.begin(time.Now())
		case <-timer.C:
			now := time.Now()
			if at, ok := k.announceAt(); ok && !now.Before(at) {
				k.repeat(now)
			}
			if !now.Before(look) {
				look = k.look(now)
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
	k.series.start(now)
	k.burst()
}

// repeat goes on with a series.
func (k *Keeper) repeat(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.series.step(now)
	if k.cfg.MayRepair() {
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
		k.cfg.Log.Warn("announce", "reason", err)
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
		k.cfg.Log.Warn("look after addresses", "reason", err)
		return now.Add(lookSoon)
	}
	next := now.Add(lookEvery)
	came := false
	for _, name := range k.devices {
		link, err := k.nl.LinkByName(name)
		if err != nil {
			delete(k.state, name)
			delete(k.ownAt, name)
			continue
		}
		before := k.state[name]
		k.prepare(name, link)
		attrs := link.Attrs()
		k.state[name] = seen(link)
		came = came || k.state[name].up && before != k.state[name]

		on := slices.DeleteFunc(slices.Clone(addrs), func(a netlink.Addr) bool { return a.LinkIndex != attrs.Index })
		if again := k.own(name, link, on, now); again.Before(next) && !again.IsZero() {
			next = again
		}
		if !k.held {
			continue
		}
		for _, a := range k.cfg.Addresses {
			if a.Device != name {
				continue
			}
			if again := k.mend(a, link, on, before.index != attrs.Index, now); !again.IsZero() && again.Before(next) {
				next = again
			}
		}
	}
	if came && k.held { // a switch that was gone has forgotten where we are
		k.series.start(now)
		if k.cfg.MayRepair() {
			k.burst()
		}
	}
	return next
}

// prepare sets up a device that was not known, or is another one than before.
func (k *Keeper) prepare(name string, link netlink.Link) {
	if d := k.state[name]; d.index == link.Attrs().Index {
		return
	}
	if err := promote(name); err != nil {
		k.cfg.Log.Warn("switch promote_secondaries on", "device", name, "reason", err)
	}
	k.state[name] = seen(link)
}

func seen(link netlink.Link) device {
	a := link.Attrs()
	return device{index: a.Index, up: a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0}
}

// own sets the link-local address of a device that has no permanent one, and
// takes it away from one that has got another. It tells when to try again.
func (k *Keeper) own(name string, link netlink.Link, on []netlink.Addr, now time.Time) (again time.Time) {
	for _, o := range k.cfg.Own {
		if o.Device != name {
			continue
		}
		has, set := false, false
		for _, a := range on {
			switch p := prefix(a); {
			case p == o.Prefix:
				set = true
			case !k.virtual(o, p.Addr()) && a.Flags&unix.IFA_F_PERMANENT != 0:
				has = true
			}
		}
		var err error
		switch {
		case !has && !set:
			if at := k.ownAt[name].Add(ownEvery); now.Before(at) { // somebody takes it away each time
				return at
			}
			k.ownAt[name] = now
			err = put(k.nl, link, o.Prefix, netlink.SCOPE_LINK)
		case has && set:
			err = take(k.nl, link, o.Prefix)
		}
		if err != nil && !missing(err) {
			k.cfg.Log.Warn("set the own address", "address", o.Prefix, "device", name, "reason", err)
		}
	}
	return again
}

// virtual tells whether an address is one of the virtual ones.
func (k *Keeper) virtual(o OwnAddress, ip netip.Addr) bool {
	return slices.ContainsFunc(o.Virtual, func(p netip.Prefix) bool { return p.Addr() == ip }) ||
		slices.ContainsFunc(k.cfg.Addresses, func(a Address) bool { return a.Prefix.Addr() == ip })
}

// mend puts an address back that is held and not there, and tells when to look
// at it again.
func (k *Keeper) mend(a Address, link netlink.Link, on []netlink.Addr, fresh bool, now time.Time) time.Time {
	l := k.lost[a]
	if l == nil {
		l = &loss{}
		k.lost[a] = l
	}
	index := link.Attrs().Index
	if present(on, index, a.Prefix) {
		l.since, l.fresh = time.Time{}, false
		k.stepBehind(a, link, on)
		return time.Time{}
	}
	if l.since.IsZero() || fresh {
		l.since, l.fresh = now, fresh
	}
	l.past = slices.DeleteFunc(l.past, func(t time.Time) bool { return now.Sub(t) > time.Minute })
	at := l.since.Add(k.cfg.Timing.Settle)
	if n := len(l.past); n >= fewRepairs { // somebody fights for it
		at = l.past[n-1].Add(slowRepair)
	}
	if now.Before(at) {
		return at
	}
	if !k.cfg.MayRepair() {
		return now.Add(lookSoon)
	}
	if err := put(k.nl, link, a.Prefix, netlink.SCOPE_UNIVERSE); err != nil {
		k.cfg.Log.Warn("put an address back", "address", a.Prefix, "device", a.Device, "reason", err)
		return now.Add(time.Second)
	}
	if l.fresh {
		k.cfg.Log.Info("put an address on", "address", a.Prefix, "device", a.Device, "reason", "the device came")
	} else {
		l.past = append(l.past, now)
		k.repairs.Add(1)
		k.cfg.Log.Warn("put an address back", "address", a.Prefix, "device", a.Device, "reason", "somebody removed it", "in_a_minute", len(l.past))
		if k.cfg.Repaired != nil {
			k.cfg.Repaired(a)
		}
	}
	l.since, l.fresh = time.Time{}, false
	k.arp.announce(link, a)
	k.series.start(now)
	return time.Time{}
}

// stepBehind lets an own address go first that was added to the same network
// after a virtual one. The kernel made it secondary, and a secondary address
// brings no route to its network along, which the admin has every right to
// expect.
func (k *Keeper) stepBehind(a Address, link netlink.Link, on []netlink.Addr) {
	if !slices.ContainsFunc(on, func(o netlink.Addr) bool {
		p := prefix(o)
		return o.Flags&unix.IFA_F_SECONDARY != 0 && o.Flags&unix.IFA_F_NOPREFIXROUTE == 0 && p.Masked() == a.Prefix.Masked() && !k.virtual(OwnAddress{}, p.Addr())
	}) {
		return
	}
	if slices.ContainsFunc(on, func(o netlink.Addr) bool {
		return prefix(o) == a.Prefix && o.Flags&unix.IFA_F_SECONDARY != 0
	}) {
		return // another one is first
	}
	if !k.cfg.MayRepair() || promote(a.Device) != nil {
		return
	}
	err := take(k.nl, link, a.Prefix)
	if err == nil {
		err = put(k.nl, link, a.Prefix, netlink.SCOPE_UNIVERSE)
	}
	if err != nil {
		k.cfg.Log.Warn("let the own address of the same network go first", "address", a.Prefix, "device", a.Device, "reason", err)
		return
	}
	k.cfg.Log.Info("let the own address of the same network go first", "address", a.Prefix, "device", a.Device)
	poke(k.kick) // another virtual address may be the first now
}
