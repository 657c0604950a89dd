package dataplane

import (
	"strings"
	"testing"
	"time"

	"harouter/test/netlab"
)

// TestVirtualMAC: the routes over a device with a virtual MAC are there while it
// is up with an address, at once when told so; that they come and go is nobody's
// doing, and the ones behind them never move.
func TestVirtualMAC(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	netlab.Sh(t, "ip link add hrv-dsl link wan2 address 00:00:5e:00:01:34 type macvlan mode private")
	var l told
	k, err := New(l.config(t))
	must(t, err)
	running(t, k)
	c, in := twoUplinks()
	c.Uplinks[1].MACDevice = "hrv-dsl"
	p := build(t, c, in)
	must(t, k.Apply(t.Context(), p)) // that they lack is no error
	over := func() string { return netlab.Sh(t, "ip route show table all dev hrv-dsl proto 200") }
	behind := func() bool {
		return strings.Contains(netlab.Sh(t, "ip route show table 7002"), "default via 203.0.113.129 dev wan2 proto 200 metric 1 onlink")
	}
	if s := over(); s != "" || !behind() {
		t.Errorf("while it is down: %q\n%s", s, netlab.Sh(t, "ip route show table 7002"))
	}
	netlab.Sh(t, "ip link set hrv-dsl up")
	k.Raise()
	if s := over(); s != "" {
		t.Errorf("without an address: %q", s)
	}
	for range 2 {
		netlab.Sh(t, "ip addr add 203.0.113.140/25 dev hrv-dsl noprefixroute")
		k.Raise()
		if s := over(); !strings.Contains(s, "default via 203.0.113.129 table 7002 onlink") || !strings.Contains(s, "203.0.113.128/25 table 7002 scope link") || !behind() {
			t.Errorf("once it has one: %q", s)
		}
		time.Sleep(3 * lookSoon) // Run has looked: all is as it should be
		netlab.Sh(t, "ip addr del 203.0.113.140/25 dev hrv-dsl")
		if s := over(); s != "" || !behind() {
			t.Errorf("without its last address: %q", s)
		}
		time.Sleep(3 * lookSoon) // and does not put them back while nothing may leave there
		if s := over(); s != "" {
			t.Errorf("put back: %q", s)
		}
	}
	// What somebody takes away comes back.
	netlab.Sh(t, "ip addr add 203.0.113.140/25 dev hrv-dsl noprefixroute")
	k.Raise()
	time.Sleep(3 * lookSoon)
	netlab.Sh(t, "ip route del default table 7002 dev hrv-dsl")
	must(t, netlab.WaitFor("it is put back", 2*time.Second, func() bool { return strings.Contains(over(), "default") }))
	if n := k.Repairs().Route; n != 1 || len(l.fights()) > 0 {
		t.Errorf("%d repairs of routes, fights: %v", n, l.fights())
	}
	netlab.Sh(t, "ip link del hrv-dsl")
	must(t, k.Apply(t.Context(), p))
	must(t, k.Cleanup(t.Context()))
}
