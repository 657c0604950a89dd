package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
	"harouter/vrrp"
)

// heard collects what a receiver reports.
type heard struct {
	t  *testing.T
	mu sync.Mutex
	r  []Received
}

func (h *heard) receive(r Received) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.r = append(h.r, r)
}

func (h *heard) all() []Received {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.r)
}

func (h *heard) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.r = nil
}

// lines tells what was heard, in an order that does not depend on sockets.
func (h *heard) lines() []string {
	var out []string
	for _, r := range h.all() {
		what := fmt.Sprintf("priority %d", r.Advert.Priority)
		if r.Drop != "" {
			what = "drop " + string(r.Drop)
		}
		out = append(out, fmt.Sprintf("[%s] %v > %v ttl %d %s", r.Link, r.Src, r.Dst, r.TTL, what))
	}
	slices.Sort(out)
	return out
}

func (h *heard) links() map[string]bool {
	out := map[string]bool{}
	for _, r := range h.all() {
		out[r.Link] = true
	}
	return out
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// logged is a log that can be searched.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// node is a transport that runs.
type node struct {
	*Transport
	heard *heard
	log   *logged
}

// start runs a transport, with its sockets in ns, or here if that is nil.
func start(t *testing.T, ns *namespace, change func(*Config)) *node {
	t.Helper()
	n := &node{heard: &heard{t: t}, log: &logged{}}
	cfg := Config{
		VRID: 51, Interval: 100 * ms, Lease: time.Minute, Receive: n.heard.receive,
		Virtual: []netip.Addr{ip("192.168.77.1"), ip("203.0.113.10")},
		Log:     slog.New(slog.NewTextHandler(n.log, nil)),
	}
	change(&cfg)
	var err error
	if n.Transport, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	run := func() { done <- n.Run(ctx) }
	if ns == nil {
		go run()
	} else {
		go func() { ns.jobs <- run }() // takes the namespace's thread until the end
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return n
}

// paths waits until a transport can send on that many paths.
func (n *node) ready(t *testing.T, paths int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d paths lead somewhere", paths), func() bool {
		fs, err := n.Frames(0)
		return err == nil && len(fs) == paths
	})
}

var office = Link{Name: "office", Device: "lan0", Addresses: []netip.Addr{ip("192.168.77.1")}}

// pair is a lan with this namespace at .2 and the other at .3.
func pair(t *testing.T) *namespace {
	t.Helper()
	ns := newNamespace(t)
	ns.cable("lan0", "lan0")
	netlab.Sh(t, "ip addr add 192.168.77.2/24 dev lan0")
	ns.sh("ip addr add 192.168.77.3/24 dev lan0")
	return ns
}

func one(cfg *Config) { cfg.Links = []Link{office} }

// TestEachPacketOnce: three paths, of which the unicast one ends on a lan's
// device; virtual addresses stand before the own ones.
func TestEachPacketOnce(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := newNamespace(t)
	ns.cable("lan0", "lan0")
	ns.cable("lan1", "lan1")
	netlab.Sh(t, `ip addr add 192.168.77.1/24 dev lan0; ip addr add 192.168.77.2/24 dev lan0
		ip addr add 203.0.113.10/25 dev lan1; ip addr add 169.254.51.1/32 dev lan1 scope link`)
	ns.sh("ip addr add 192.168.77.3/24 dev lan0; ip addr add 169.254.51.2/32 dev lan1 scope link")
	links := []Link{office, {Name: "lab", Device: "lan1"}}
	b := start(t, ns, func(c *Config) {
		c.Links, c.Local, c.Peers = links, ip("192.168.77.3"), []netip.Addr{ip("192.168.77.2")}
	})
	a := start(t, nil, func(c *Config) {
		c.Links, c.Local, c.Peers = links, ip("192.168.77.2"), []netip.Addr{ip("192.168.77.3")}
	})
	a.ready(t, 3)
	b.ready(t, 3)
	// A neighbour that is not known yet may cost the first unicast packets.
	eventually(t, "all is heard", func() bool {
		a.Once(1)
		b.Once(1)
		return len(a.heard.links()) == 3 && len(b.heard.links()) == 3
	})
	time.Sleep(50 * ms) // for what is still on its way
	a.heard.reset()
	b.heard.reset()

	a.Once(200)
	b.Once(150)
	eventually(t, "all is heard again", func() bool { return len(a.heard.all()) >= 3 && len(b.heard.all()) >= 3 })
	time.Sleep(50 * ms) // for what should not come
	want := []string{
		"[] 192.168.77.2 > 192.168.77.3 ttl 255 priority 200",
		"[lab] 169.254.51.1 > 224.0.0.18 ttl 255 priority 200",
		"[office] 192.168.77.2 > 224.0.0.18 ttl 255 priority 200",
	}
	if diff := cmp.Diff(want, b.heard.lines()); diff != "" {
		t.Error(diff)
	}
	want = []string{
		"[] 192.168.77.3 > 192.168.77.2 ttl 255 priority 150",
		"[lab] 169.254.51.2 > 224.0.0.18 ttl 255 priority 150",
		"[office] 192.168.77.3 > 224.0.0.18 ttl 255 priority 150",
	}
	if diff := cmp.Diff(want, a.heard.lines()); diff != "" {
		t.Error(diff)
	}
	listed := map[string][]netip.Addr{}
	for _, r := range b.heard.all() {
		listed[r.Link] = r.Advert.Addresses
		if r.Checksum != vrrp.ChecksumPseudo || r.Advert.Interval != 100*ms || r.Advert.VRID != 51 || time.Since(r.At) > time.Minute {
			t.Errorf("%+v", r)
		}
	}
	if diff := cmp.Diff(map[string][]netip.Addr{"": {ip("192.168.77.2")}, "lab": {ip("169.254.51.1")}, "office": {ip("192.168.77.1")}}, listed, cmpAddr); diff != "" {
		t.Error(diff)
	}
}

func TestUnicastOnly(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	a := start(t, nil, func(c *Config) {
		c.Links, c.UnicastOnly, c.Checksum = []Link{office}, true, vrrp.ChecksumPlain
		c.Local, c.Peers, c.UnicastAddresses = ip("192.168.77.2"), []netip.Addr{ip("192.168.77.3")}, office.Addresses
	})
	b := start(t, ns, func(c *Config) {
		c.Links, c.Local, c.Peers = []Link{office}, ip("192.168.77.3"), []netip.Addr{ip("192.168.77.2")}
	})
	a.ready(t, 1)
	b.ready(t, 2)
	a.Advertise(200, 10*ms)
	b.Advertise(150, 10*ms)
	eventually(t, "both hear", func() bool { return len(a.heard.all()) >= 10 && len(b.heard.all()) >= 10 })
	for _, r := range append(a.heard.all(), b.heard.all()...) {
		if r.Link != "" || r.Drop != "" || r.Dst.IsMulticast() {
			t.Fatalf("%+v", r)
		}
	}
	if r := b.heard.all()[0]; r.Checksum != vrrp.ChecksumPlain || !slices.Equal(r.Advert.Addresses, office.Addresses) {
		t.Errorf("%+v", r)
	}
}

func TestDrops(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	a := start(t, nil, func(c *Config) { c.Links, c.Local = []Link{office}, ip("192.168.77.2") })
	a.ready(t, 1)
	good := func(src, dst netip.Addr) []byte {
		b, err := vrrp.Advert{Version: 3, VRID: 51, Priority: 1, Interval: time.Second, Addresses: office.Addresses}.Append(nil, src, dst, vrrp.ChecksumPseudo)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	_, v2 := message(t, 2, vrrp.ChecksumPlain)
	src, local := ip("192.168.77.3"), ip("192.168.77.2")
	group := func(ttl int, b []byte) Frame {
		return Frame{Device: "lan0", Src: src, Dst: vrrp.Group4, TTL: ttl, Payload: b}
	}
	spoilt := good(src, vrrp.Group4)
	spoilt[2]++
	foreign := bytes.Clone(v2) // another virtual router: none of our business
	foreign[1] = 52
	frames := []Frame{
		group(255, foreign),
		group(255, bytes.Repeat([]byte{0xff}, 1000)),
		group(255, good(src, vrrp.Group4)),
		group(254, good(src, vrrp.Group4)),
		group(255, []byte("33")),
		group(255, spoilt),
		group(255, v2),
		{Src: src, Dst: local, TTL: 64, Payload: good(src, local)},
		{Src: src, Dst: local, TTL: 255, Payload: bytes.Repeat([]byte{0xff, 51}, 500)},
		{Src: src, Dst: local, TTL: 255, Payload: good(src, local)},
	}
	ns.do(func() {
		if err := SendFrames(frames); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "all are heard", func() bool { return len(a.heard.all()) >= len(frames)-2 })
	want := []string{
		"[] 192.168.77.3 > 192.168.77.2 ttl 255 drop version",
		"[] 192.168.77.3 > 192.168.77.2 ttl 255 priority 1",
		"[] 192.168.77.3 > 192.168.77.2 ttl 64 drop ttl",
		"[office] 192.168.77.3 > 224.0.0.18 ttl 254 drop ttl",
		"[office] 192.168.77.3 > 224.0.0.18 ttl 255 drop checksum",
		"[office] 192.168.77.3 > 224.0.0.18 ttl 255 drop length",
		"[office] 192.168.77.3 > 224.0.0.18 ttl 255 drop version",
		"[office] 192.168.77.3 > 224.0.0.18 ttl 255 priority 1",
	}
	if diff := cmp.Diff(want, a.heard.lines()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]uint64{"ttl": 2, "checksum": 1, "length": 1, "version": 2}, a.Counters()); diff != "" {
		t.Error(diff)
	}
}

// TestOwnPacketsAreIgnored: a switch that sends back what it gets.
func TestOwnPacketsAreIgnored(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	// Without these two the kernel itself drops such packets.
	netlab.Sh(t, "echo 1 > /proc/sys/net/ipv4/conf/lan0/accept_local; echo 0 > /proc/sys/net/ipv4/conf/lan0/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter")
	a := start(t, nil, one)
	a.ready(t, 1)
	fs, err := a.Frames(7)
	if err != nil {
		t.Fatal(err)
	}
	ns.sh("ip addr add 192.168.77.2/24 dev lan0") // so that it may be sent from there
	other := fs[0]
	other.Src = ip("192.168.77.3")
	ns.do(func() {
		if err := SendFrames([]Frame{fs[0], fs[0], other}); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the last is heard", func() bool { return len(a.heard.all()) > 0 })
	if diff := cmp.Diff([]string{"[office] 192.168.77.3 > 224.0.0.18 ttl 255 drop checksum"}, a.heard.lines()); diff != "" {
		t.Error(diff)
	}
}

func TestLease(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	const lease, interval = 100 * ms, 20 * ms
	ns := pair(t)
	b := start(t, ns, one)
	a := start(t, nil, func(c *Config) { c.Links, c.Lease = []Link{office}, lease })
	a.ready(t, 1)
	b.ready(t, 1)
	last := func() time.Time {
		all := b.heard.all()
		return all[len(all)-1].At
	}
	a.Advertise(200, interval)
	for range 20 { // longer than the lease
		a.Renew()
		time.Sleep(10 * ms)
	}
	renewed := time.Now()
	a.Renew()
	eventually(t, "silence", func() bool { return len(b.heard.all()) > 0 && time.Since(last()) > lease+4*interval })
	if lived := last().Sub(renewed); lived < lease-2*interval || lived > lease+interval {
		t.Errorf("the last advert came %v after the last Renew, want about %v", lived, lease)
	}
	n := len(b.heard.all())
	for range 10 { // the lease is not taken up again by itself
		a.Renew()
		time.Sleep(10 * ms)
	}
	if got := len(b.heard.all()); got != n {
		t.Errorf("%d adverts after the lease had run out", got-n)
	}
	a.Once(0) // a farewell needs no lease
	eventually(t, "the farewell", func() bool { return len(b.heard.all()) == n+1 })
	a.Advertise(200, interval)
	eventually(t, "adverts again", func() bool { return len(b.heard.all()) >= n+3 })
	a.Silence()
	a.Once(0)
	eventually(t, "the second farewell", func() bool {
		all := b.heard.all()
		return all[len(all)-1].Advert.Priority == 0
	})
	n = len(b.heard.all())
	time.Sleep(5 * interval)
	if got := len(b.heard.all()); got != n {
		t.Errorf("%d adverts after Silence and Once", got-n)
	}
}

func TestCadence(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	const interval, count = 10 * ms, 100
	ns := pair(t)
	b := start(t, ns, one)
	a := start(t, nil, one)
	a.ready(t, 1)
	b.ready(t, 1)
	begin := time.Now()
	a.Advertise(200, interval)
	eventually(t, "the first advert", func() bool { return len(b.heard.all()) > 0 })
	if first := b.heard.all()[0].At.Sub(begin); first > 50*ms {
		t.Errorf("the first advert came after %v", first)
	}
	eventually(t, "adverts", func() bool { return len(b.heard.all()) >= count })
	all := b.heard.all()
	// Advert n is due n intervals after the first: lateness does not add up. Any
	// one, the first too, may be late when the machine stood still; after a whole
	// interval of that the count begins anew. So the middle one of all is the
	// clock that the others are held against.
	var off []time.Duration
	for i, r := range all[:count] {
		off = append(off, r.At.Sub(all[0].At)-time.Duration(i)*interval)
	}
	middle := func(ds []time.Duration) time.Duration {
		ds = slices.Sorted(slices.Values(ds))
		return ds[len(ds)/2]
	}
	mid, far := middle(off), 0
	for _, d := range off {
		if (d - mid).Abs() > 9*ms {
			far++
		}
	}
	drift := middle(off[count/2:]) - middle(off[:count/2])
	t.Logf("drift %v, %d of %d far from their time", drift, far, count)
	if drift < -9*ms || drift > 30*ms || far > count/2 {
		t.Errorf("drift %v, %d of %d far from their time: %v", drift, far, count, off)
	}
}

// TestAdvertiseAgain: a new order is obeyed at once, the last one counts.
func TestAdvertiseAgain(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	b := start(t, ns, one)
	a := start(t, nil, one)
	a.ready(t, 1)
	b.ready(t, 1)
	for p := range 200 { // far more than any queue holds
		a.Advertise(uint8(p+1), time.Second)
	}
	eventually(t, "the last order", func() bool {
		all := b.heard.all()
		return len(all) > 0 && all[len(all)-1].Advert.Priority == 200
	})
	a.Silence()
	a.Advertise(100, 15*ms) // version 3 cannot say that
	eventually(t, "the configured interval instead", func() bool {
		all := b.heard.all()
		r := all[len(all)-1].Advert
		return r.Priority == 100 && r.Interval == 100*ms
	})
}

// TestDeviceComesBack: missing at start, then there, then another one under the
// same name; nobody tells of it.
func TestDeviceComesBack(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := newNamespace(t)
	a := start(t, nil, one)
	b := start(t, ns, one)
	// b's thread is taken: what is to be done there goes by nsenter.
	a.Advertise(200, 10*ms)
	b.Advertise(150, 10*ms)
	for round := range 2 {
		if round > 0 {
			netlab.Sh(t, "ip link del lan0")
			a.heard.reset()
			b.heard.reset()
		}
		ns.cable("lan0", "lan0")
		netlab.Sh(t, "ip addr add 192.168.77.2/24 dev lan0")
		ns.sh("ip addr add 192.168.77.3/24 dev lan0")
		if round > 0 {
			a.LinkChanged("lan0")
			b.LinkChanged("lan0")
		}
		eventually(t, fmt.Sprintf("both hear in round %d", round), func() bool {
			return len(a.heard.all()) > 3 && len(b.heard.all()) > 3
		})
	}
}

// TestSourceFollows: the address is replaced; it comes late.
func TestSourceFollows(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := newNamespace(t)
	ns.cable("lan0", "lan0")
	ns.sh("ip addr add 192.168.77.3/24 dev lan0")
	b := start(t, ns, one)
	a := start(t, nil, one)
	b.ready(t, 1)
	a.Advertise(200, 10*ms)
	for _, addr := range []string{"169.254.51.1/32", "192.168.77.2/24", "192.168.77.5/24"} {
		netlab.Sh(t, "ip addr flush dev lan0; ip addr add "+addr+" dev lan0")
		a.LinkChanged("lan0")
		src := netip.MustParsePrefix(addr).Addr()
		eventually(t, "adverts from "+addr, func() bool {
			return slices.ContainsFunc(b.heard.all(), func(r Received) bool { return r.Src == src && r.Drop == "" })
		})
	}
}

// TestNodeAddress: it comes after the start, and is reached by a rule that
// looks at the source.
func TestNodeAddress(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	unicast := func(local, peer string) func(*Config) {
		return func(c *Config) { c.Local, c.Peers = ip(local), []netip.Addr{ip(peer)} }
	}
	a := start(t, nil, unicast("192.0.2.2", "192.0.2.3"))
	b := start(t, ns, unicast("192.0.2.3", "192.0.2.2"))
	a.Advertise(200, 10*ms)
	b.Advertise(150, 10*ms)
	netlab.Sh(t, "ip link set lo up; ip addr add 192.0.2.2/32 dev lo; ip rule add from 192.0.2.2 lookup 100; ip route add 192.0.2.3 via 192.168.77.3 table 100")
	ns.sh("ip link set lo up; ip addr add 192.0.2.3/32 dev lo; ip rule add from 192.0.2.3 lookup 100; ip route add 192.0.2.2 via 192.168.77.2 table 100")
	for _, n := range []*node{a, b} {
		eventually(t, "adverts by the rule", func() bool { return len(n.heard.all()) > 3 })
	}
}

// TestFailingPath: a lan whose device is down and a peer without a route do not
// disturb the other lan; the log tells once.
func TestFailingPath(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	netlab.Sh(t, "ip link add lan1 type veth peer name nowhere; ip addr add 10.1.0.1/24 dev lan1") // stays down
	b := start(t, ns, one)
	a := start(t, nil, func(c *Config) {
		c.Links = []Link{{Name: "dead", Device: "lan1"}, {Name: "gone", Device: "lan2"}, office}
		c.Local, c.Peers = ip("192.168.77.2"), []netip.Addr{ip("198.51.100.7"), ip("192.168.77.3")}
	})
	b.ready(t, 1)
	a.ready(t, 4) // the device that is down leads somewhere, until it is tried
	a.Advertise(200, 10*ms)
	eventually(t, "adverts", func() bool { return len(b.heard.all()) >= 80 })
	all := b.heard.all()
	if took := all[len(all)-1].At.Sub(all[0].At); took > 2*time.Second {
		t.Errorf("80 adverts took %v", took)
	}
	eventually(t, "three warnings", func() bool { return a.log.count("to=failing") >= 3 })
	netlab.Sh(t, "ip link set lan1 up; ip link set nowhere up")
	eventually(t, "one of them ends", func() bool { return a.log.count("to=working") == 1 })
	for what, want := range map[string]int{
		`"adverts: send to lan dead" from=working to=failing`: 1, `"adverts: send to lan dead" from=failing to=working`: 1,
		`"adverts: send to lan gone"`: 1, `"adverts: send to peer 198.51.100.7"`: 1, `"adverts: listen on lan2"`: 1,
		"office": 0, "192.168.77.3": 0,
	} {
		if got := a.log.count(what); got != want {
			t.Errorf("%s: logged %d times, want %d\n%v", what, got, want, a.log)
		}
	}
}

// TestFrames: what the guard gets over its socket is an advert that is heard.
func TestFrames(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	b := start(t, ns, func(c *Config) {
		c.Links, c.Local, c.Peers = []Link{office}, ip("192.168.77.3"), []netip.Addr{ip("192.168.77.2")}
	})
	sender, err := NewFrameSender()
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	var fs, sent []Frame
	func() { // the daemon that dies
		a, err := New(Config{VRID: 51, Interval: 100 * ms, Lease: time.Second, Links: []Link{office}, Local: ip("192.168.77.2"), Peers: []netip.Addr{ip("192.168.77.3")}, Receive: func(Received) {}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		(&node{Transport: a}).ready(t, 2)
		if fs, err = a.Frames(0); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	text, err := json.Marshal(fs)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &sent); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fs, sent, cmpAddr); diff != "" {
		t.Fatal(diff)
	}
	b.ready(t, 2)
	bad := Frame{Device: "nosuch", Src: ip("192.168.77.2"), Dst: vrrp.Group4, TTL: 255}
	if err := sender.Send(append([]Frame{bad}, sent...)); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("err = %v, want the missing device", err)
	}
	want := []string{
		"[] 192.168.77.2 > 192.168.77.3 ttl 255 priority 0",
		"[office] 192.168.77.2 > 224.0.0.18 ttl 255 priority 0",
	}
	eventually(t, "both frames", func() bool { return len(b.heard.all()) >= 2 })
	if diff := cmp.Diff(want, b.heard.lines()); diff != "" {
		t.Error(diff)
	}
}

// TestListen: as the guard listens, also on a device that comes later.
func TestListen(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	b := start(t, ns, func(c *Config) {
		c.Links = []Link{office, {Name: "lab", Device: "lan1"}}
		c.Local, c.Peers = ip("192.168.77.3"), []netip.Addr{ip("192.168.77.2")}
	})
	b.ready(t, 2)
	h := &heard{t: t}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- Listen(ctx, Spots{Devices: []string{"lan0", "lan1"}, Local: ip("192.168.77.2")}, h.receive)
	}()
	b.Advertise(200, 20*ms)
	links := func() map[string]bool {
		out := map[string]bool{}
		for _, r := range h.all() {
			out[r.Link] = r.Drop == "" && r.Advert.Priority == 200
		}
		return out
	}
	eventually(t, "lan0 and unicast", func() bool { return cmp.Equal(links(), map[string]bool{"lan0": true, "": true}) })
	ns.cable("lan1", "lan1")
	ns.sh("ip addr add 169.254.51.2/32 dev lan1 scope link")
	b.LinkChanged("lan1")
	eventually(t, "lan1 too", func() bool { return links()["lan1"] })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNew(t *testing.T) {
	good := Config{VRID: 51, Interval: 100 * ms, Lease: time.Second, Links: []Link{office}, Local: ip("192.0.2.1"), Peers: []netip.Addr{ip("192.0.2.2")}}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"router id", func(c *Config) { c.VRID = 0 }, "router id 0"},
		{"interval", func(c *Config) { c.Interval = 5 * ms }, "interval 5ms"},
		{"interval of version 2", func(c *Config) { c.Version = 2 }, "version 2"},
		{"version", func(c *Config) { c.Version = 4 }, "version 4"},
		{"lease", func(c *Config) { c.Lease = 0 }, "lease"},
		{"IPv6 without a link-local address", func(c *Config) {
			c.Links = []Link{{Name: "six", Device: "lan6", Addresses: []netip.Addr{ip("2001:db8::1")}}}
		}, "lan six over IPv6"},
		{"IPv6 in version 2", func(c *Config) {
			c.Version, c.Interval, c.Links = 2, time.Second, []Link{{Name: "six", Device: "lan6", Addresses: []netip.Addr{ip("fe80::1")}}}
		}, "lan six over IPv6"},
		{"a password in version 3", func(c *Config) { c.Password = "apple" }, "no passwords"},
		{"a long password", func(c *Config) { c.Version, c.Interval, c.Password = 2, time.Second, "9 bytes !" }, "9 bytes"},
		{"too many addresses", func(c *Config) { c.UnicastAddresses = make([]netip.Addr, 256) }, "peer 192.0.2.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v, want one about %s", err, c.want)
			}
		})
	}
}

// TestSendingAllocatesNothing: no garbage, no collection of it.
func TestSendingAllocatesNothing(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	_ = ns
	framed := office
	framed.Name, framed.MACDevice = "framed", "hrv-framed"
	tr, err := New(Config{VRID: 51, Interval: 100 * ms, Lease: time.Second, Links: []Link{office, framed}, Local: ip("192.168.77.2"), Peers: []netip.Addr{ip("192.168.77.3"), ip("198.51.100.1")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tr.paths {
		if err := p.open(); err != nil {
			t.Fatal(err)
		}
		defer p.close()
		p.index, p.src = 0, ip("192.168.77.2")
		if p.device != "" {
			p.index = 2
			d, err := openDevices()
			if err != nil {
				t.Fatal(err)
			}
			p.index = d.index(p.device)
			d.close()
		}
	}
	packets := tr.packets(200, 100*ms)
	if len(packets) != 4 {
		t.Fatalf("%d packets", len(packets))
	}
	if n := testing.AllocsPerRun(100, func() { tr.transmit(packets) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var errs []int32
	for _, p := range tr.paths {
		errs = append(errs, p.errno.Load())
	}
	if errs[0] != 0 || errs[1] != 0 || errs[2] != 0 || errs[3] == 0 {
		t.Errorf("errors of the four paths: %v, want only the last", errs)
	}
}
