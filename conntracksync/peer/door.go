package peer

import (
	"net/netip"
	"sync"
	"time"
)

// Bounds of connections before the handshake is over. Strangers cannot take
// the places of the nodes.
const (
	maxStrangers = 8
	maxPerSource = 4
	strangerRate = 20 // a second
)

// door decides who may try a handshake.
type door struct {
	mu        sync.Mutex
	strangers int
	sources   map[netip.Addr]int
	rate      allowance
}

func newDoor() *door {
	return &door{sources: map[netip.Addr]int{}, rate: allowance{rate: strangerRate}}
}

// enter takes a place if one is free; who gets one must call leave, once.
func (d *door) enter(source netip.Addr, node bool, now time.Time) (leave func(), ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	source = wide(source)
	if d.sources[source] >= maxPerSource || !node && (d.strangers >= maxStrangers || !d.rate.take(now)) {
		return nil, false
	}
	d.sources[source]++
	if !node {
		d.strangers++
	}
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.sources[source]--; d.sources[source] == 0 {
			delete(d.sources, source)
		}
		if !node {
			d.strangers--
		}
	}), true
}

// wide is what counts as one source: an IPv6 host has a /64 to itself.
func wide(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
