package netlab

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Holders are the routers that have the address now, powered ones only.
func (s *Site) Holders(addr netip.Addr) []string {
	var holders []string
	for _, n := range s.nodes {
		if n.Kind != KindRouter || !n.on() {
			continue
		}
		devices, err := n.Addresses()
		if err != nil {
			continue // its power went meanwhile
		}
		for _, prefixes := range devices {
			if slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr() == addr }) {
				holders = append(holders, n.Name)
				break
			}
		}
	}
	return holders
}

// WaitFor asks every two milliseconds until the condition holds, and says so
// in an error if it does not within the time.
func WaitFor(what string, within time.Duration, condition func() bool) error {
	for deadline := Now().Add(within); ; time.Sleep(2 * time.Millisecond) {
		if condition() {
			return nil
		}
		if Now() > deadline {
			return fmt.Errorf("wait for %s: not within %s", what, within)
		}
	}
}

// WaitHolder waits until the named router, and no other, has the address.
func (s *Site) WaitHolder(addr netip.Addr, router string, within time.Duration) error {
	var last []string
	err := WaitFor(fmt.Sprintf("%s on %s", addr, router), within, func() bool {
		last = s.Holders(addr)
		return len(last) == 1 && last[0] == router
	})
	if err != nil {
		return fmt.Errorf("%w: it is on %v", err, last)
	}
	return nil
}
