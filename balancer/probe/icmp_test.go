package probe

import (
	"net/netip"
	"testing"
	"time"

	"harouter/balancer"
	"harouter/test/netlab"
)

func TestSilentDeathIsSeenInTime(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	route(t)
	i.sh(t, `nft add table inet t; nft "add chain inet t in { type filter hook input priority 0; }"`)

	const fall, interval, timeout = 3, 100 * time.Millisecond, 80 * time.Millisecond
	h := balancer.NewHealth(balancer.ProbeConfig{Fall: fall, Rise: 3})
	u := wan1(1, "198.51.100.1", "198.51.100.2")
	u.Interval, u.Timeout = interval, timeout
	r := start(t, u)
	verdict := func() balancer.Verdict {
		for _, b := range r.rounds() {
			h.Round(b)
		}
		r.forget()
		return h.Verdict()
	}
	until := func(want balancer.Verdict) time.Time {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); verdict() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("verdict %v, want %v: %s", h.Verdict(), want, h.Reason())
			}
		}
		return h.Since()
	}
	until(balancer.Up)
	died := time.Now()
	i.sh(t, "nft add rule inet t in icmp type echo-request drop")
	dead := time.Now()
	down := until(balancer.Down)
	// The bound counts from the last round that began while it lived.
	if took := down.Sub(dead); took > fall*interval+timeout+100*time.Millisecond {
		t.Errorf("down after %v", took)
	}
	if took := down.Sub(died); took < (fall-1)*interval {
		t.Errorf("down already after %v", took)
	}
	if want := "198.51.100.1: no answer within 80ms; 198.51.100.2: no answer within 80ms"; h.Reason() != want {
		t.Errorf("reason %q, want %q", h.Reason(), want)
	}
	i.sh(t, "nft flush chain inet t in")
	until(balancer.Up)
}

func TestMarkSourceAndPayload(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	route(t)
	netlab.Sh(t, `nft -f - <<-E
		table inet t {
			counter sent { }
			counter marked { }
			chain out { type filter hook output priority 0
				icmp type echo-request counter name sent
				meta mark 0x100 ip saddr 203.0.113.10 ip length >= 44 icmp type echo-request counter name marked
			}
			}
		E`)
	i.sh(t, `nft -f - <<-E
		table inet t {
			counter sent { }
			counter own { }
			chain in { type filter hook input priority 0
				icmp type echo-request counter name sent
				ip saddr 203.0.113.10 ip length >= 44 icmp type echo-request counter name own
			}
			}
		E`)
	r := start(t, wan1(2, "198.51.100.1", "198.51.100.2"))
	r.all(r.next(3), true, false, "")
	all, marked := isp{}.count(t, "inet", "sent"), isp{}.count(t, "inet", "marked")
	seen, seenOwn := i.count(t, "inet", "sent"), i.count(t, "inet", "own")
	// A round may begin between two counts.
	if all < 8 || marked < all || seen < all || seenOwn < seen {
		t.Errorf("pings sent %d, with mark and source %d, seen by the ISP %d, with source %d", all, marked, seen, seenOwn)
	}
}

// The other ISP has the same targets and the default route of table main: an
// answer by it must never count for this one.
func TestNeverByAnotherUplink(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i, other := newISP(t), newISP(t)
	i.attach(t, "wan1")
	other.attach(t, "wan2")
	other.sh(t, `ip addr del 203.0.113.1/25 dev line; ip addr add 203.0.113.129/25 dev line
		ip route add 203.0.113.0/25 via 203.0.113.140
		nft add table inet t; nft add counter inet t seen
		nft "add chain inet t in { type filter hook prerouting priority 0; }"
		nft add rule inet t in icmp type echo-request counter name seen`)
	route(t)
	netlab.Sh(t, "ip addr add 203.0.113.140/25 dev wan2; ip route add default via 203.0.113.129")

	r := start(t, wan1(1, "198.51.100.1", "198.51.100.2"))
	r.all(r.next(2), true, false, "")
	netlab.Sh(t, "ip route del default via 203.0.113.1 table 7001")
	bad := r.next(3)
	r.all(bad, false, false, "198.51.100.1 from 203.0.113.10: no route to host")
	// Such a round waits for nothing.
	if gap := bad[2].At.Sub(bad[0].At); gap > 150*time.Millisecond {
		t.Errorf("two rounds took %v", gap)
	}
	netlab.Sh(t, "ip route add default via 203.0.113.1 dev wan1 onlink table 7001")
	r.all(r.next(2), true, false, "")
	netlab.Sh(t, "ip link set wan1 down")
	r.all(r.next(3), false, false, "wan1 is switched off")
	i.sh(t, "ip link set line down")
	netlab.Sh(t, "ip link set wan1 up")
	r.all(r.next(3), false, false, "wan1 has no carrier")
	i.sh(t, "ip link set line up")
	r.all(r.next(2), false, false, "no route to host") // the kernel dropped the route
	netlab.Sh(t, "ip route add default via 203.0.113.1 dev wan1 onlink table 7001")
	r.all(r.next(2), true, false, "")
	if n := other.count(t, "inet", "seen"); n != 0 {
		t.Errorf("%d probes of cable went out by the other uplink", n)
	}
}

func TestQuorum(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	route(t)
	i.sh(t, `nft add table inet t; nft "add chain inet t in { type filter hook input priority 0; }"`)
	silence := func(line string) { i.sh(t, "nft flush chain inet t in; "+line) }
	r := start(t, wan1(2, "198.51.100.1", "198.51.100.2", "198.51.100.3"))
	r.all(r.next(2), true, false, "")
	silence("nft add rule inet t in ip daddr 198.51.100.2 drop")
	r.all(r.next(3), true, false, "")
	silence("nft add rule inet t in ip daddr 198.51.100.1-198.51.100.2 drop")
	r.all(r.next(3), false, false, "198.51.100.1: no answer within 80ms; 198.51.100.2: no answer within 80ms")
	// The third cannot be reached at once, so the second decides: one failure
	// at once, one silent.
	netlab.Sh(t, "ip route add unreachable 198.51.100.3 table 7001")
	silence("nft add rule inet t in ip daddr 198.51.100.1 drop")
	r.all(r.next(3), false, false, "198.51.100.3 from 203.0.113.10: no route to host; 198.51.100.1: no answer within 80ms")
}

func TestSendErrors(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	route(t)
	r := start(t, wan1(1, "198.51.100.1"))
	r.all(r.next(2), true, false, "")

	r.Source("cable", netip.MustParseAddr("203.0.113.11"))
	r.all(r.next(2), false, false, "198.51.100.1 from 203.0.113.11: cannot assign requested address")
	r.Source("cable", netip.MustParseAddr("2001:db8::1"))
	r.all(r.next(2), false, false, "198.51.100.1 from 2001:db8::1: ")
	r.Source("cable", netip.MustParseAddr(own))
	r.all(r.next(2), true, false, "")

	// pro-bing would try again for ever here, on a whole core.
	netlab.Sh(t, "ip route replace prohibit 198.51.100.1 table 7001")
	r.all(r.next(3), false, false, "198.51.100.1 from 203.0.113.10: permission denied")
	netlab.Sh(t, "ip route del prohibit 198.51.100.1 table 7001")
	r.all(r.next(2), true, false, "")

	netlab.Sh(t, `nft add table inet t; nft "add chain inet t out { type filter hook output priority 0; }"
		nft add rule inet t out icmp type echo-request drop`)
	r.all(r.next(3), false, false, "198.51.100.1 from 203.0.113.10: operation not permitted")
}

// Every other ping is lost: the rounds between are decided at once, but wait
// for those before them.
func TestRoundsThatOverlapKeepTheirOrder(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	route(t)
	i.sh(t, `nft add table inet t; nft "add chain inet t in { type filter hook input priority 0; }"
		nft add rule inet t in icmp type echo-request numgen inc mod 2 0 drop`)
	u := wan1(1, "198.51.100.1")
	u.Interval, u.Timeout = 50*time.Millisecond, 400*time.Millisecond
	began := time.Now()
	r := start(t, u)
	seen := r.wait("20 rounds", func(b []balancer.Round) bool { return len(b) >= 20 })
	bad := 0
	for n, b := range seen {
		if !b.Good {
			bad++
		}
		// Round n began n intervals after the first, at least. A bad one took
		// the timeout too: handed on sooner, it is not round n but an earlier
		// one that others overtook.
		least := time.Duration(n) * u.Interval
		if !b.Good {
			least += u.Timeout
		}
		if after := b.At.Sub(began); after < least {
			t.Errorf("round %d was handed on after %v, want at least %v", n, after, least)
		}
		if n > 0 && b.At.Before(seen[n-1].At) {
			t.Errorf("round %d was handed on before the one before it", n)
		}
	}
	if bad < 5 || bad > len(seen)-5 {
		t.Errorf("%d of %d rounds were bad, want every other", bad, len(seen))
	}
}

// The gateway does not answer ARP for a while: the pings wait in the kernel,
// several rounds are under way at once, and all of them come true.
func TestAnswersLaterThanTheInterval(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	route(t)
	netlab.Sh(t, "sysctl -qw net.ipv4.neigh.wan1.retrans_time_ms=400")
	i.sh(t, "sysctl -qw net.ipv4.conf.all.arp_ignore=8")
	u := wan1(1, "198.51.100.1")
	u.Interval, u.Timeout = 100*time.Millisecond, 1500*time.Millisecond
	r := start(t, u)
	for end := time.Now().Add(5 * time.Second); netlab.Sh(t, "ip neigh show dev wan1") == ""; {
		if time.Now().After(end) {
			t.Fatal("no ping was sent")
		}
	}
	i.sh(t, "sysctl -qw net.ipv4.conf.all.arp_ignore=0")
	seen := r.wait("6 rounds", func(b []balancer.Round) bool { return len(b) >= 6 })
	r.all(seen, true, false, "")
	if seen[0].RTT < 250*time.Millisecond || seen[0].RTT > 600*time.Millisecond {
		t.Errorf("the first answer took %v, want 400 ms", seen[0].RTT)
	}
	if seen[1].RTT >= seen[0].RTT || seen[2].RTT >= seen[1].RTT {
		t.Errorf("round trips %v, %v, %v: want less and less", seen[0].RTT, seen[1].RTT, seen[2].RTT)
	}
}

func TestKick(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	route(t)
	u := wan1(1, "198.51.100.1")
	u.Interval = 2 * time.Second
	r := start(t, u)
	r.Kick("nobody")
	r.wait("the first round", func(b []balancer.Round) bool { return len(b) == 1 })
	began := time.Now()
	for range 50 {
		r.Kick("cable")
	}
	seen := r.wait("the kicked round", func(b []balancer.Round) bool { return len(b) == 2 })
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("kicked after %v", took)
	}
	if gap := seen[1].At.Sub(seen[0].At); gap < 8*time.Millisecond {
		t.Errorf("a flood of kicks made a round %v after the last", gap)
	}
	r.wait("the round after", func(b []balancer.Round) bool { return len(b) == 3 })
	if gap := time.Since(began); gap < 1500*time.Millisecond {
		t.Errorf("the rhythm goes on %v after the kick, want an interval", gap)
	}
}
