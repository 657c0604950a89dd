package vip

import (
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	lookSoon   = 100 * time.Millisecond // while something waits to be put back
	fewRepairs = 5                      // a minute, and after that
	slowRepair = 2 * time.Second        // not before this; seldom enough, and a fight that is over shows soon
)

// loss is an address that is held and not there.
type loss struct {
	since time.Time   // zero: it is there
	fresh bool        // it is the device that came, nobody removed anything
	past  []time.Time // when it was put back, within a minute
	why   string      // it could not be put back the last time
}

// mend puts an address back that is held and not there, and tells when to look
// at it again.
func (k *Keeper) mend(a Address, link netlink.Link, on []netlink.Addr, fresh bool, now time.Time) time.Time {
	l := k.lost[a.spot()]
	if l == nil {
		l = &loss{}
		k.lost[a.spot()] = l
	}
	index := link.Attrs().Index
	if present(on, index, a.Prefix) && (up(link) || !isOurs(link)) {
		k.there[a.spot()] = true
		l.since, l.fresh = time.Time{}, false
		k.stepBehind(a, link, on)
		return time.Time{}
	}
	if l.since.IsZero() || fresh {
		l.since, l.fresh = now, fresh
	}
	if a.Prefix.Addr().Is6() && !up(link) { // the kernel took it along
		l.fresh = true
	}
	l.past = slices.DeleteFunc(l.past, func(t time.Time) bool { return now.Sub(t) > time.Minute })
	at := l.since.Add(k.series.timing.Settle)
	if n := len(l.past); n >= fewRepairs { // somebody fights for it
		at = l.past[n-1].Add(slowRepair)
	}
	if now.Before(at) {
		return at
	}
	if !k.mayRepair() {
		return now.Add(lookSoon)
	}
	err := put(k.nl, link, a.Prefix, netlink.SCOPE_UNIVERSE, k.there6())
	if err == nil {
		links := map[string]netlink.Link{a.Device: link}
		err = k.raise(links)
		link = links[a.Device]
	}
	if err != nil {
		if l.why != err.Error() {
			l.why = err.Error()
			k.log.Warn("put an address back", "address", a.Prefix, "device", a.Device, "reason", err)
		}
		return now.Add(time.Second)
	}
	l.why = ""
	if l.fresh {
		k.log.Info("put an address on", "address", a.Prefix, "device", a.Device, "reason", "the device came")
	} else {
		l.past = append(l.past, now)
		k.repairs.Add(1)
		k.log.Warn("put an address back", "address", a.Prefix, "device", a.Device, "reason", "somebody removed it", "in_a_minute", len(l.past))
		if k.repaired != nil {
			k.repaired(a)
		}
	}
	l.since, l.fresh = time.Time{}, false
	k.announceAll(map[string]netlink.Link{a.Device: link}, []Address{a})
	k.series.start(now)
	return time.Time{}
}

// stepBehind lets an own address go first that was added to the same network
// after a virtual one. The kernel made it secondary, and a secondary address
// brings no route to its network along, which the admin has every right to
// expect.
func (k *Keeper) stepBehind(a Address, link netlink.Link, on []netlink.Addr) {
	if a.Prefix.Addr().Is6() { // that flag says something else there
		return
	}
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
	if !k.mayRepair() || promote(a.Device) != nil {
		return
	}
	err := take(k.nl, link, a.Prefix)
	if err == nil {
		err = put(k.nl, link, a.Prefix, netlink.SCOPE_UNIVERSE, nil)
	}
	if err != nil {
		k.log.Warn("let the own address of the same network go first", "address", a.Prefix, "device", a.Device, "reason", err)
		return
	}
	k.log.Info("let the own address of the same network go first", "address", a.Prefix, "device", a.Device)
	poke(k.kick) // another virtual address may be the first now
}
