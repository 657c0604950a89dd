package probe

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"harouter/balancer"
	"harouter/test/netlab"
)

// After a stop of the whole process all deadlines have passed, while the
// answers may lie in the sockets: they are read first.
func TestSleepIsNotSilence(t *testing.T) {
	u := newUplink(Uplink{Name: "cable"}, slog.Default())
	now := time.Now()
	for i := range 3 {
		r := &round{
			timeout: time.Second, deadline: now.Add(time.Duration(i-4) * time.Second), quorum: 1,
			cancel: func() {},
		}
		r.ask("target")
		u.open = append(u.open, r)
	}
	rounds := slices.Clone(u.open)
	u.expire()
	for i, r := range rounds {
		if r.decided {
			t.Errorf("round %d was given up without a look into the sockets: %q", i, r.result.Reason)
		}
	}
	u.take(answer{round: rounds[1], rtt: 4 * time.Second})
	for end := time.Now().Add(5 * time.Second); len(u.open) > 0; u.expire() {
		if time.Now().After(end) {
			t.Fatal("the rounds do not end")
		}
	}
	if took := time.Since(now); took < drain {
		t.Errorf("given up after %v", took)
	}
	for i, r := range rounds {
		if !r.decided || r.result.Good != (i == 1) {
			t.Errorf("round %d: decided %v, %+v", i, r.decided, r.result)
		}
	}
}

// TestSourceThatLeaves: what was asked from an address that goes is no fault of
// the line; where it stays away, and nobody tells of another, it is one.
func TestSourceThatLeaves(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	isp := newISP(t)
	isp.attach(t, "wan1")
	route(t)
	netlab.Sh(t, "ip addr add 169.254.1.1/32 dev wan1") // without any, the kernel takes the routes too
	slow := wan1(1, "198.51.100.1")
	slow.Timeout = 400 * time.Millisecond
	r := start(t, slow)
	r.all(r.next(3), true, false, "")
	begin := time.Now()
	netlab.Sh(t, "ip addr del 203.0.113.10/25 dev wan1")
	seen := r.wait("a bad round", func(b []balancer.Round) bool { return len(b) > 0 && !b[len(b)-1].Good })
	if took := time.Since(begin); took < homelessMost-time.Second {
		t.Errorf("bad after %v: %+v", took, seen[len(seen)-1])
	}
	r.all(seen[len(seen)-1:], false, false, "cannot assign requested address")
	netlab.Sh(t, "ip addr add 203.0.113.10/25 dev wan1")
	r.wait("good rounds", func(b []balancer.Round) bool { return b[len(b)-1].Good })
	r.all(r.next(3), true, false, "")

	// Those under way when another source is told.
	netlab.Sh(t, "ip addr add 203.0.113.11/25 dev wan1")
	isp.sh(t, `nft add table ip t; nft add chain ip t in "{ type filter hook input priority 0 ; }"; nft add rule ip t in ip saddr 203.0.113.10 drop`)
	r.Source("cable", netip.MustParseAddr("203.0.113.11"))
	r.forget()
	r.all(r.wait("more rounds", func(b []balancer.Round) bool { return len(b) >= 7 })[2:], true, false, "") // two may be on their way to us
}
