package links

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/ha"
	"harouter/test/netlab"
)

var cmpNet = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// reports collects what a watcher says.
type reports struct {
	*Watcher
	t    *testing.T
	mu   sync.Mutex
	seen []ha.Links
}

// start runs a watcher until the test ends.
func start(t *testing.T, devices []string, auto map[string]Line) *reports {
	t.Helper()
	r := &reports{t: t}
	r.Watcher = New(Config{Devices: devices, Auto: auto, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Report: func(l ha.Links) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, l)
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	r.until("the first report", func(ha.Links) bool { return true })
	return r
}

func (r *reports) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen)
}

func (r *reports) last() ha.Links {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) == 0 {
		return ha.Links{}
	}
	return r.seen[len(r.seen)-1]
}

// until waits for a last report that is as it should be.
func (r *reports) until(what string, ok func(ha.Links) bool) {
	r.t.Helper()
	for end := time.Now().Add(5 * time.Second); r.count() == 0 || !ok(r.last()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not within 5 s: %s; last report %+v", what, r.last())
		}
	}
}

func cable(t *testing.T, name string) {
	t.Helper()
	netlab.Sh(t, "ip link add "+name+" type veth peer name far-"+name+"; ip link set "+name+" up; ip link set far-"+name+" up")
}

func up(device string) func(ha.Links) bool {
	return func(l ha.Links) bool { return l.Devices[device].Carrier }
}

func TestFollows(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "wan1")
	r := start(t, []string{"wan1", "wan2"}, map[string]Line{"cable": {Device: "wan1"}})
	r.until("carrier", up("wan1"))
	if l := r.last().Devices["wan2"]; l.Present || l.Index != 0 {
		t.Errorf("a device that is not there: %+v", l)
	}
	netlab.Sh(t, "ip addr add 203.0.113.2/25 dev wan1; ip route add default via 203.0.113.1 dev wan1")
	gw := netip.MustParseAddr("203.0.113.1")
	r.until("address and gateway", func(l ha.Links) bool {
		return l.Gateways["cable"] == gw && slices.Contains(l.Devices["wan1"].Addresses, netip.MustParsePrefix("203.0.113.2/25"))
	})
	netlab.Sh(t, "ip link set wan1 down")
	r.until("down, the gateway remembered", func(l ha.Links) bool {
		return l.Devices["wan1"].Present && !l.Devices["wan1"].Carrier && l.Gateways["cable"] == gw
	})
	netlab.Sh(t, "ip link set wan1 name wan2")
	r.until("renamed", func(l ha.Links) bool { return !l.Devices["wan1"].Present && l.Devices["wan2"].Present })
	netlab.Sh(t, "ip link set wan2 name other")
	r.until("renamed away", func(l ha.Links) bool { return !l.Devices["wan2"].Present })
}

// TestMadeAnew: deleted and there again before anybody could look.
func TestMadeAnew(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "wan1")
	r := start(t, []string{"wan1"}, nil)
	r.until("carrier", func(l ha.Links) bool { return up("wan1")(l) && len(l.Devices["wan1"].Addresses) > 0 })
	was := r.last().Devices["wan1"]
	if was.Index == 0 {
		t.Fatalf("%+v", was)
	}
	netlab.Sh(t, `printf '%s\n' 'link del wan1' 'link add wan1 type veth peer name far-wan1' 'link set wan1 up' 'link set far-wan1 up' | ip -batch -`)
	r.until("another index", func(l ha.Links) bool { return up("wan1")(l) && l.Devices["wan1"].Index != was.Index })
}

func TestConfigure(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	for _, d := range []string{"lan0", "wan1", "wan2"} {
		cable(t, d)
	}
	netlab.Sh(t, `ip addr add 203.0.113.2/25 dev wan1; ip route add default via 203.0.113.1 dev wan1
		ip addr add 203.0.113.130/25 dev wan2; ip route add default via 203.0.113.129 dev wan2 metric 9`)
	r := start(t, []string{"lan0"}, nil)
	r.until("carrier", up("lan0"))
	for _, c := range []struct {
		name     string
		devices  []string
		auto     map[string]Line
		gateways map[string]netip.Addr
	}{
		{"a line that looks for its gateway", []string{"lan0", "wan1"}, map[string]Line{"cable": {Device: "wan1"}}, map[string]netip.Addr{"cable": netip.MustParseAddr("203.0.113.1")}},
		{"nothing new", []string{"lan0", "wan1"}, map[string]Line{"cable": {Device: "wan1"}}, map[string]netip.Addr{"cable": netip.MustParseAddr("203.0.113.1")}},
		{"it moves", []string{"wan2"}, map[string]Line{"cable": {Device: "wan2"}}, map[string]netip.Addr{"cable": netip.MustParseAddr("203.0.113.129")}},
		{"to one that knows none", []string{"lan0"}, map[string]Line{"cable": {Device: "lan0"}}, map[string]netip.Addr{}},
		{"nothing is left", nil, nil, map[string]netip.Addr{}},
		{"and all again", []string{"lan0", "wan1", "wan2"}, map[string]Line{"dsl": {Device: "wan2"}}, map[string]netip.Addr{"dsl": netip.MustParseAddr("203.0.113.129")}},
	} {
		n := r.count()
		r.Configure(c.devices, c.auto)
		r.until(c.name+": a report", func(ha.Links) bool { return r.count() > n })
		l := r.last()
		if len(l.Devices) != len(c.devices) {
			t.Errorf("%s: %d devices", c.name, len(l.Devices))
		}
		for _, d := range c.devices {
			if !l.Devices[d].Carrier {
				t.Errorf("%s: %s: %+v", c.name, d, l.Devices[d])
			}
		}
		if diff := cmp.Diff(c.gateways, l.Gateways, cmpNet); diff != "" {
			t.Errorf("%s: gateways %s", c.name, diff)
		}
	}
	netlab.Sh(t, "ip route replace default via 203.0.113.140 dev wan2 metric 9")
	r.until("events of routes, too", func(l ha.Links) bool { return l.Gateways["dsl"] == netip.MustParseAddr("203.0.113.140") })
	netlab.Sh(t, "ip link set far-wan1 down")
	r.until("and of links", func(l ha.Links) bool { return !l.Devices["wan1"].Carrier })
}

// TestSocketsDoNotMultiply: looking opens none.
func TestSocketsDoNotMultiply(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "wan1")
	r := start(t, []string{"wan1"}, map[string]Line{"cable": {Device: "wan1"}})
	sockets := func() int {
		n := 0
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "socket:") {
				n++
			}
		}
		return n
	}
	if n := sockets(); n != 4 { // one to ask, three to hear
		t.Errorf("%d sockets", n)
	}
	for range 50 {
		n := r.count()
		r.Configure([]string{"wan1"}, map[string]Line{"cable": {Device: "wan1"}})
		r.until("a report", func(ha.Links) bool { return r.count() > n })
	}
	if n := sockets(); n != 4 {
		t.Errorf("%d sockets after 50 looks", n)
	}
}

// TestGateways: by the routes of DHCP clients and of pppd, in whatever table, but
// not by ours.
func TestGateways(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	for _, d := range []string{"wan1", "wan2"} {
		cable(t, d)
	}
	netlab.Sh(t, "ip addr add 203.0.113.2/25 dev wan1; ip tuntap add tun0 mode tun")
	r := start(t, []string{"wan1", "wan2", "tun0", "ppp0"}, map[string]Line{
		"cable": {Device: "wan1"}, "tunnel": {Device: "tun0"}, "dsl": {Device: "wan2", Point: true}, "ppp": {Device: "ppp0", Point: true},
	})
	var a = netip.MustParseAddr
	none := netip.IPv4Unspecified()
	want := map[string]netip.Addr{"dsl": none}
	for _, step := range []struct {
		name, do string
		change   map[string]netip.Addr
	}{
		{"a line between two points needs none", "", nil},
		{"a lease in a table of its own", "ip route add default via 203.0.113.1 dev wan1 table 77 metric 5", map[string]netip.Addr{"cable": a("203.0.113.1")}},
		{"ours is not looked at", "ip route add default via 203.0.113.9 dev wan1 onlink table 7001 proto 200; ip route add default via 203.0.113.3 dev wan1 table 77 metric 4", map[string]netip.Addr{"cable": a("203.0.113.3")}},
		{"the main table comes first", "ip route add default via 203.0.113.4 dev wan1 metric 500", map[string]netip.Addr{"cable": a("203.0.113.4")}},
		{"the best of it", "ip route add default via 203.0.113.5 dev wan1 metric 100", map[string]netip.Addr{"cable": a("203.0.113.5")}},
		{"another lease", "ip addr flush dev wan1; ip addr add 198.18.0.2/24 dev wan1; ip route add default via 198.18.0.1 dev wan1", map[string]netip.Addr{"cable": a("198.18.0.1")}},
		{"a tunnel with an address", "ip addr add 10.9.0.2 peer 10.9.0.1 dev tun0", map[string]netip.Addr{"tunnel": none}},
		{"a default route without a gateway", "ip route replace default dev wan1", map[string]netip.Addr{"cable": none}},
		{"pppd brings its device", "ip tuntap add ppp0 mode tun", map[string]netip.Addr{"ppp": none}},
		{"and takes it away", "ip tuntap del ppp0 mode tun", map[string]netip.Addr{"ppp": {}}},
	} {
		if step.do != "" {
			netlab.Sh(t, step.do)
		}
		for name, gw := range step.change {
			if want[name] = gw; !gw.IsValid() {
				delete(want, name)
			}
		}
		r.until(step.name, func(l ha.Links) bool { return cmp.Equal(want, l.Gateways, cmpNet) })
	}
}
