package probe

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
)

// countARP counts the ARP requests for the gateway by sender, on the ISP.
const countARP = `nft -f - <<-E
	table arp t {
		counter zero { }
		counter own { }
		counter strange { }
		chain in { type filter hook input priority 0
			arp operation request arp daddr ip 203.0.113.1 arp saddr ip 0.0.0.0 counter name zero accept
			arp operation request arp daddr ip 203.0.113.1 arp saddr ip 203.0.113.10 counter name own accept
			arp operation request counter name strange
		}
		}
	E`

func TestARP(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	i.sh(t, countARP)
	type counts struct{ Zero, Own bool }
	senders := func() counts {
		t.Helper()
		if n := i.count(t, "arp", "strange"); n != 0 {
			t.Errorf("%d requests that are none of ours to send", n)
		}
		c := counts{i.count(t, "arp", "zero") > 0, i.count(t, "arp", "own") > 0}
		i.sh(t, "nft reset counters table arp t >/dev/null")
		return c
	}
	want := func(r *running, onlyARP bool, want counts) {
		t.Helper()
		senders()
		r.all(r.next(3), true, onlyARP, "")
		if diff := cmp.Diff(want, senders()); diff != "" {
			t.Errorf("senders (-want +got):\n%s", diff)
		}
	}

	r := start(t, wan1(1))
	// The address that ha named is not there (yet): the peer may hold it.
	want(r, false, counts{Zero: true})
	netlab.Sh(t, "ip addr add 203.0.113.10/25 dev wan1")
	r.next(1)
	want(r, false, counts{Own: true})
	netlab.Sh(t, "ip addr del 203.0.113.10/25 dev wan1")
	r.next(1)
	want(r, false, counts{Zero: true})
	// An address outside of the gateway's network is no sender.
	netlab.Sh(t, "ip addr add 203.0.113.10/30 dev wan1")
	r.next(1)
	want(r, false, counts{Zero: true})
	netlab.Sh(t, "ip addr del 203.0.113.10/30 dev wan1; ip addr add 203.0.113.10/25 dev wan1")
	r.Source("cable", netip.Addr{})
	r.next(1)
	want(r, false, counts{Zero: true})

	i.sh(t, "sysctl -qw net.ipv4.conf.all.arp_ignore=8")
	r.all(r.next(3), false, false, "gateway 203.0.113.1: no answer within 80ms")
	i.sh(t, "sysctl -qw net.ipv4.conf.all.arp_ignore=0")
	r.all(r.next(3), true, false, "")

	r.Gateway("cable", netip.MustParseAddr("203.0.113.2"))
	r.all(r.next(3), false, false, "gateway 203.0.113.2: no answer within 80ms")
	r.Gateway("cable", netip.Addr{})
	r.all(r.next(3), false, false, "no gateway of cable is known to ask")
	r.Gateway("cable", netip.MustParseAddr("2001:db8::1"))
	r.all(r.next(2), false, false, "gateway 2001:db8::1: no IPv4 address to ask for")
	r.Gateway("cable", netip.MustParseAddr(gateway))
	r.all(r.next(2), true, false, "")
}

func TestTargetsWithoutAnOwnAddress(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	i.sh(t, countARP)
	r := start(t, wan1(1, "198.51.100.1"))
	r.Source("cable", netip.IPv4Unspecified())
	r.all(r.next(3), true, true, "")
	if i.count(t, "arp", "zero") == 0 || i.count(t, "arp", "own") != 0 {
		t.Error("not asked with sender 0.0.0.0")
	}
	i.sh(t, "sysctl -qw net.ipv4.conf.all.arp_ignore=8")
	r.all(r.next(3), false, true, "gateway 203.0.113.1: no answer within 80ms")
	i.sh(t, "sysctl -qw net.ipv4.conf.all.arp_ignore=0")
	route(t)
	r.Source("cable", netip.MustParseAddr(own))
	r.all(r.next(3), true, false, "")
	r.Source("cable", netip.Addr{})
	r.all(r.next(3), true, true, "")
	r.Gateway("cable", netip.Addr{})
	r.all(r.next(3), false, true, "no own address to probe from; no gateway of cable is known to ask")
}

func TestDeviceGoesAndComes(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	first := newISP(t)
	both := func(arp, icmp *running, good bool, reason string) {
		t.Helper()
		arp.all(arp.next(3), good, false, reason)
		icmp.all(icmp.next(3), good, false, reason)
	}
	arp, icmp := start(t, wan1(1)), start(t, wan1(1, "198.51.100.1"))
	both(arp, icmp, false, "wan1 does not exist")
	first.attach(t, "wan1")
	route(t)
	both(arp, icmp, true, "")
	netlab.Sh(t, "ip link del wan1")
	both(arp, icmp, false, "wan1 does not exist")
	// Another device of that name, before the prober has looked again or not.
	second := newISP(t)
	second.attach(t, "wan1")
	netlab.Sh(t, `ip addr add 203.0.113.10/25 dev wan1
		ip route add default via 203.0.113.1 dev wan1 onlink table 7001`)
	both(arp, icmp, true, "")
	netlab.Sh(t, "ip link set wan1 down")
	both(arp, icmp, false, "wan1 is switched off")
	netlab.Sh(t, "ip link set wan1 up; ip route add default via 203.0.113.1 dev wan1 onlink table 7001")
	both(arp, icmp, true, "")
	// Deleted and made anew between two rounds.
	third := newISP(t)
	netlab.Sh(t, "ip link del wan1")
	third.attach(t, "wan1")
	netlab.Sh(t, `ip addr add 203.0.113.10/25 dev wan1
		ip route add default via 203.0.113.1 dev wan1 onlink table 7001`)
	both(arp, icmp, true, "")
}

func TestDeviceWithoutARP(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	netlab.Sh(t, "ip link set wan1 arp off")
	r := start(t, wan1(1))
	r.all(r.next(2), false, false, "wan1 does not speak ARP: the probe needs targets")
}

func FuzzReplier(f *testing.F) {
	reply := []byte{0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 203, 0, 113, 1, 2, 0, 0, 0, 0, 2, 203, 0, 113, 10}
	f.Add(reply)
	f.Add(reply[:27])
	for at, to := range map[int]byte{0: 1, 1: 6, 2: 0x86, 4: 8, 5: 16, 7: 1} {
		other := append([]byte(nil), reply...)
		other[at] = to
		f.Add(other)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		who, ok := replier(b)
		if ok != (len(b) >= 28 && string(b[:8]) == string(reply[:8])) {
			t.Fatalf("replier(%x) = %v, %v", b, who, ok)
		}
		if ok && who != netip.AddrFrom4([4]byte(b[14:18])) {
			t.Fatalf("replier(%x) = %v", b, who)
		}
	})
}

// TestPointToPoint: where there is no gateway, the line itself is what is looked at.
func TestPointToPoint(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	r := start(t, wan1(1))
	r.Gateway("cable", netip.IPv4Unspecified())
	r.Source("cable", netip.MustParseAddr(own))
	r.all(r.next(2), false, false, "wan1 does not exist")
	i.attach(t, "wan1")
	netlab.Sh(t, "ip link set wan1 arp off")
	r.next(3) // what was decided before
	for _, round := range r.next(2) {
		if !round.Good || round.OnlyARP || round.RTT != 0 {
			t.Errorf("%+v, want a good round without a time", round)
		}
	}
	r.Source("cable", netip.Addr{})
	r.next(3) // what was decided before
	r.all(r.next(2), false, false, "the line has no address")
}

// TestOwnAddressGone: a line without virtual addresses that loses the node's own
// carries nothing, though its gateway still answers; one with virtual ones may be
// fine for whoever holds them.
func TestOwnAddressGone(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	u := wan1(1)
	u.OwnOnly = true
	r := start(t, u)
	r.all(r.next(2), true, false, "") // before it is told
	r.Source("cable", netip.MustParseAddr(own))
	r.next(3)
	r.all(r.next(2), true, false, "")
	r.Source("cable", netip.Addr{})
	r.next(3)
	r.all(r.next(2), false, false, "the line has no address")
	r.Configure([]Uplink{wan1(1)})
	r.next(3)
	r.all(r.next(2), true, false, "")
}
