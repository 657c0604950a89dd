package gossip

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// childEnv makes the test binary a node of its own that can be killed.
const childEnv = "HAROUTER_GOSSIP_CHILD"

func TestMain(m *testing.M) {
	if raw := os.Getenv(childEnv); raw != "" {
		var cfg Config
		if err := json.Unmarshal([]byte(raw), &cfg); err != nil {
			panic(err)
		}
		cfg.Handler = func(Event) {}
		g := New(cfg)
		g.Publish([]byte("child"))
		if err := g.Run(context.Background()); err != nil {
			panic(err)
		}
		return
	}
	code := m.Run()
	if left := leftovers(); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// leftovers returns the stacks of goroutines that outlive their Gossip by more
// than two seconds.
func leftovers() string {
	var left string
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		buf := make([]byte, 1<<20)
		stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
		left = strings.Join(slices.DeleteFunc(stacks, func(s string) bool {
			return !strings.Contains(s, "hashicorp/memberlist") && !strings.Contains(s, "gossip.(*")
		}), "\n\n")
		if left == "" {
			return ""
		}
	}
	return left
}

var (
	keyA = bytes.Repeat([]byte{1}, 32)
	keyB = bytes.Repeat([]byte{2}, 32)
)

// site is a cluster on loopback addresses of its own.
type site struct {
	t    *testing.T
	net  int // 127.0.net.x
	port int
}

var sites struct {
	sync.Mutex
	n int
}

func newSite(t *testing.T) *site {
	t.Helper()
	sites.Lock()
	defer sites.Unlock()
	sites.n++
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.%d.1:0", sites.n))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return &site{t: t, net: sites.n, port: l.Addr().(*net.TCPAddr).Port}
}

func (s *site) addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 0, byte(s.net), byte(i)})
}

// config is that of node r<i> in a cluster of r1…r<n>.
func (s *site) config(i, n int) Config {
	c := Config{
		Node: fmt.Sprintf("r%d", i), Addresses: []netip.Addr{s.addr(i)}, Port: s.port,
		Peers: map[string][]netip.Addr{}, Keys: [][]byte{keyA}, ClusterLabel: "home",
	}
	for j := 1; j <= n; j++ {
		if j != i {
			c.Peers[fmt.Sprintf("r%d", j)] = []netip.Addr{s.addr(j)}
		}
	}
	return c
}

// node is a running Gossip and what it told.
type node struct {
	*Gossip
	t    *testing.T
	stop context.CancelFunc
	err  chan error

	mu     sync.Mutex
	events []Event
}

// start runs a node; it stops, and must end without an error, with the test.
func (s *site) start(cfg Config) *node {
	s.t.Helper()
	n := s.prepare(cfg)
	n.run()
	return n
}

func (s *site) prepare(cfg Config) *node {
	n := &node{t: s.t, err: make(chan error, 1)}
	cfg.Handler = func(e Event) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.events = append(n.events, e)
	}
	if testing.Verbose() && os.Getenv("GOSSIP_DEBUG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", cfg.Node)
	}
	n.Gossip = New(cfg)
	return n
}

func (n *node) run() {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() { n.err <- n.Run(ctx) }()
	n.t.Cleanup(func() { n.end() })
}

// end stops the node and returns how long that took.
func (n *node) end() time.Duration {
	n.t.Helper()
	begin := time.Now()
	n.stop()
	select {
	case err := <-n.err:
		n.err <- nil // for the next call
		if err != nil {
			n.t.Errorf("%s: %v", n.node, err)
		}
	case <-time.After(5 * time.Second):
		n.t.Errorf("%s does not end", n.node)
	}
	return time.Since(begin)
}

// patience is how long a test waits for what must happen: a machine that runs
// many tests at once may stand still for a while. What must be fast is
// measured several times.
const patience = 5 * time.Second

// await polls until ok, and returns how long that took.
func await(t *testing.T, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > patience {
			t.Fatalf("after %s: not %s", patience, what)
		}
		<-time.After(200 * time.Microsecond)
	}
	return time.Since(begin)
}

// median fails the test if half of the times are above the limit.
func median(t *testing.T, what string, limit time.Duration, took []time.Duration) {
	t.Helper()
	slices.Sort(took)
	m := took[len(took)/2]
	t.Logf("%s: median %s, worst %s of %d", what, m, took[len(took)-1], len(took))
	if m > limit {
		t.Errorf("%s takes %s, at most %s allowed", what, m, limit)
	}
}

// count tells how many events are like that.
func count[E Event](n *node, like func(E) bool) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := 0
	for _, e := range n.events {
		if e, ok := e.(E); ok && like(e) {
			c++
		}
	}
	return c
}

func (n *node) hasMembers(names ...string) func() bool {
	return func() bool { return slices.Equal(n.Members(), names) }
}

func (n *node) hasState(from string, payload []byte) func() bool {
	return func() bool {
		return count(n, func(s State) bool { return s.Node == from && bytes.Equal(s.Payload, payload) }) > 0
	}
}

// child runs a node as a process of its own.
func (s *site) child(cfg Config) *exec.Cmd {
	s.t.Helper()
	raw, err := json.Marshal(struct {
		Node, ClusterLabel string
		Addresses          []netip.Addr
		Port               int
		Peers              map[string][]netip.Addr
		Keys               [][]byte
	}{cfg.Node, cfg.ClusterLabel, cfg.Addresses, cfg.Port, cfg.Peers, cfg.Keys})
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(raw))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}
