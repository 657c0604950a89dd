package vip

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// watch looks out for others that hold our addresses while we do. It belongs
// to the goroutine of Run.
type watch struct {
	ears   map[place]*ear
	heard  chan sighting
	failed map[place]bool
	rivals rivals
	spots  map[spot]bool // what is held and there
	turns  uint64        // changes of hands seen
}

func newWatch() *watch {
	return &watch{ears: map[place]*ear{}, heard: make(chan sighting), failed: map[place]bool{}}
}

func (w *watch) close() {
	for _, e := range w.ears {
		e.close()
	}
	clear(w.ears)
}

// watchAt is when the watch wants to be called; not ok while nothing is held.
func (w *watch) watchAt() (time.Time, bool) { return w.rivals.deadline(), len(w.spots) > 0 }

// settleWatch listens where something is held now, and nowhere else. A backup
// has no socket for it and sends nothing.
func (k *Keeper) settleWatch(w *watch, now time.Time) {
	if k.conflict == nil {
		return
	}
	stations, turns := k.stations()
	w.spots = map[spot]bool{}
	for at, s := range stations {
		for _, p := range s.prefixes {
			w.spots[spot{at.device, p}] = true
		}
	}
	if turns != w.turns {
		w.turns = turns
		w.rivals.begin(now)
	}
	k.tell(w.rivals.keep(w.spots))
	for at, e := range w.ears {
		if s, ok := stations[at]; !ok || s.index != e.at.index || e.lost() {
			e.close()
			delete(w.ears, at)
		}
	}
	for at, s := range stations {
		var err error
		if e := w.ears[at]; e == nil {
			if e, err = openEar(at, s.station, w.heard); err == nil {
				w.ears[at] = e
			}
		} else if !e.at.equal(s.station) {
			err = e.retune(s.station)
		}
		if failed := err != nil; failed != w.failed[at] {
			if failed {
				k.log.Warn("listen for address conflicts", "device", at, "from", "working", "to", "failing", "reason", err)
			} else {
				k.log.Info("listen for address conflicts", "device", at, "from", "failing", "to", "working")
			}
			w.failed[at] = failed
		}
	}
}

// hear takes in what an ear heard.
func (k *Keeper) hear(w *watch, s sighting, now time.Time) {
	if !k.mayRepair() {
		return
	}
	for at := range w.spots {
		if at.device != s.device || at.prefix.Addr() != s.ip {
			continue
		}
		c, proved := w.rivals.hear(at, s.mac, now)
		switch {
		case !proved:
		case k.ours(s.mac): // another port of this machine in the same network
			delete(w.rivals.by, at)
		default:
			k.tell([]Conflict{c})
		}
	}
}

// ask asks who else holds what is ours, by ARP probes (RFC 5227 §2.1.1), over
// IPv6 by the like of them (RFC 4862 §5.4.2): they come from nobody, so they
// change no neighbour's table.
func (k *Keeper) ask(w *watch, now time.Time) {
	spots := w.spots
	if !k.mayRepair() { // who is not sure to be master has no rivals
		spots = nil
	}
	ask, gone := w.rivals.step(spots, now)
	k.tell(gone)
	if len(ask) == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.held {
		return
	}
	links := map[string]netlink.Link{}
	for _, s := range ask {
		if link, err := k.link(links, s.device); err == nil {
			k.arp.probe(link, s.prefix.Addr())
		}
	}
}

func (k *Keeper) tell(cs []Conflict) {
	for _, c := range cs {
		from, to, level := "one holder", "two holders", k.log.Warn
		if c.Gone {
			from, to, level = to, from, k.log.Info
		}
		level("address conflict", "address", c.Address, "device", c.Device, "mac", c.MAC, "from", from, "to", to)
		k.conflict(c)
	}
}

// ours tells whether a device of this machine has that MAC.
func (k *Keeper) ours(mac net.HardwareAddr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	links, err := k.nl.LinkList()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(links, func(l netlink.Link) bool { return slices.Equal(l.Attrs().HardwareAddr, mac) })
}

// post is a station and the addresses there.
type post struct {
	station
	prefixes []netip.Prefix
}

// stations are where something of ours was seen, on devices that speak ARP.
// It also tells how often the addresses have changed hands.
func (k *Keeper) stations() (map[place]*post, uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[place]*post{}
	if !k.held {
		return out, k.turns
	}
	for _, a := range k.cfg.Addresses {
		d := k.state[a.Device]
		if !k.there[a.spot()] || !d.arp || !d.up {
			continue
		}
		at := place{a.Device, a.Prefix.Addr().Is6()}
		p := out[at]
		if p == nil {
			p = &post{station: station{index: d.index, mac: d.mac}}
			out[at] = p
		}
		p.prefixes = append(p.prefixes, a.Prefix)
		p.ips = append(p.ips, a.Prefix.Addr())
	}
	for _, p := range out {
		slices.SortFunc(p.ips, netip.Addr.Compare)
	}
	return out, k.turns
}
