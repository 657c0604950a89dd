package probe

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"harouter/balancer"
	"harouter/test/netlab"
)

// isp is a namespace that plays an ISP: the gateway, and hosts of the internet
// on its loopback. It ends with its process.
type isp struct{ pid int }

func newISP(t *testing.T) isp {
	t.Helper()
	return isp{netlab.Elsewhere(t)}
}

// sh runs a shell line inside.
func (i isp) sh(t *testing.T, line string) string {
	t.Helper()
	return netlab.Sh(t, fmt.Sprintf("nsenter -t %d -n sh -ec '%s'", i.pid, line))
}

// attach makes the router's device and links it to the ISP, which is the
// gateway 203.0.113.1 and has the targets 198.51.100.1 to .3.
func (i isp) attach(t *testing.T, device string) {
	t.Helper()
	netlab.Sh(t, fmt.Sprintf("ip link add %s type veth peer name %s-isp; ip link set %s-isp netns %d; ip link set %s up",
		device, device, device, i.pid, device))
	i.sh(t, fmt.Sprintf(`ip link set lo up; ip link set %s-isp name line; ip link set line up
		ip addr add 203.0.113.1/25 dev line
		for n in 1 2 3; do ip addr replace 198.51.100.$n/32 dev lo; done`, device))
}

// count reads a named nft counter of the router (isp 0) or an ISP.
func (i isp) count(t *testing.T, family, name string) int {
	t.Helper()
	line := fmt.Sprintf("nft list counter %s t %s", family, name)
	var out string
	if i.pid == 0 {
		out = netlab.Sh(t, line)
	} else {
		out = i.sh(t, line)
	}
	m := regexp.MustCompile(`packets (\d+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no counter in %s", out)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	gateway = "203.0.113.1"
	own     = "203.0.113.10"
	mark    = 0x100
)

// route gives wan1 its own address and the table of its mark.
func route(t *testing.T) {
	t.Helper()
	netlab.Sh(t, `ip addr add 203.0.113.10/25 dev wan1
		ip rule add fwmark 0x100/0x3f00 lookup 7001
		ip route add default via 203.0.113.1 dev wan1 onlink table 7001
		ip route add unreachable default metric 2147483647 table 7001`)
}

func targets(addrs ...string) []Target {
	var ts []Target
	for _, a := range addrs {
		ts = append(ts, Target{Address: netip.MustParseAddr(a)})
	}
	return ts
}

// wan1 is an uplink with those targets, quick enough for a test.
func wan1(quorum int, addrs ...string) Uplink {
	return Uplink{
		Name: "cable", Device: "wan1", Mark: mark, Gateway: netip.MustParseAddr(gateway), Quorum: quorum,
		Targets: targets(addrs...), Interval: 40 * time.Millisecond, Timeout: 80 * time.Millisecond,
	}
}

// running is a prober under test and what it reported.
type running struct {
	*Prober
	t    *testing.T
	mu   sync.Mutex
	seen []balancer.Round
}

// start runs a prober until the test ends, and checks that it ends in time.
func start(t *testing.T, us ...Uplink) *running {
	t.Helper()
	r := &running{t: t}
	r.Prober = New(Config{Uplinks: us, Report: func(b balancer.Round) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, b)
	}})
	r.Source("cable", netip.MustParseAddr(own))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run: %v", err)
			}
		case <-time.After(2 * time.Second):
			t.Error("Run does not return")
		}
		if t.Failed() {
			for i, b := range r.rounds() {
				t.Logf("round %d: %+v", i, b)
			}
		}
	})
	return r
}

func (r *running) rounds() []balancer.Round {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]balancer.Round(nil), r.seen...)
}

// forget drops the rounds seen so far.
func (r *running) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = nil
}

// wait polls until the rounds since forget satisfy ok, and returns them.
func (r *running) wait(what string, ok func([]balancer.Round) bool) []balancer.Round {
	r.t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if seen := r.rounds(); ok(seen) {
			return seen
		} else if time.Now().After(end) {
			r.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// next waits for n more rounds, skipping the three that may be under way.
func (r *running) next(n int) []balancer.Round {
	r.t.Helper()
	r.forget()
	return r.wait(fmt.Sprintf("%d rounds", n+3), func(b []balancer.Round) bool { return len(b) >= n+3 })[3:]
}

// all asserts that all of the rounds are good, or all bad for that reason. On a
// busy machine an answer may be late: then as many that follow have to be.
func (r *running) all(rounds []balancer.Round, good, onlyARP bool, reason string) {
	r.t.Helper()
	wrong := func(b balancer.Round) bool {
		return b.Good != good || b.OnlyARP != onlyARP || !strings.Contains(b.Reason, reason) || good && b.Reason != "" ||
			b.Uplink != "cable" || b.At.IsZero() || good && (b.RTT <= 0 || b.RTT > time.Second)
	}
	for end := time.Now().Add(3 * time.Second); slices.ContainsFunc(rounds, wrong); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Errorf("rounds %+v, want good %v, only ARP %v, reason %q", rounds, good, onlyARP, reason)
			return
		}
		if seen := r.rounds(); len(seen) >= len(rounds) {
			rounds = seen[len(seen)-len(rounds):]
		}
	}
}
