package peer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"harouter/ha/join"
	"harouter/test/netlab"
)

// Tests with the sockets of the kernel, each in a network namespace of its own.

// childEnv makes the test binary a node of its own, that can be stopped.
const childEnv = "HAROUTER_PEER_CHILD"

func TestMain(m *testing.M) {
	if raw := os.Getenv(childEnv); raw != "" {
		var cfg Config
		if err := json.Unmarshal([]byte(raw), &cfg); err != nil {
			panic(err)
		}
		cfg.Handler = &recorder{}
		s, err := New(cfg)
		if err != nil {
			panic(err)
		}
		s.Run(context.Background())
		return
	}
	os.Exit(m.Run())
}

// child runs a node as a process.
func child(t *testing.T, cfg Config) *os.Process {
	t.Helper()
	raw, err := json.Marshal(struct {
		Node      string
		Addresses []netip.AddrPort
		Peers     map[string][]netip.AddrPort
		Seeds     [][32]byte
	}{cfg.Node, cfg.Addresses, cfg.Peers, cfg.Seeds})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(raw))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process
}

// await polls until ok; a machine that runs many tests may stand still for a
// while.
func await(t testing.TB, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > 8*time.Second {
			t.Fatalf("after %v: not %s", time.Since(begin), what)
		}
		<-time.After(200 * time.Microsecond)
	}
	return time.Since(begin)
}

// namespace is loopback with the addresses of three nodes, twice.
func namespace(t *testing.T) bool {
	t.Helper()
	if !netlab.Isolated(t) {
		return false
	}
	netlab.Sh(t, "ip link set lo up; for i in 1 2 3; do ip addr add 10.0.0.$i/32 dev lo; ip addr add 192.0.2.$i/32 dev lo; done")
	return true
}

func three() map[string]Config {
	at := map[string][]string{}
	for i := range 3 {
		at[fmt.Sprintf("r%d", i+1)] = []string{fmt.Sprintf("10.0.0.%d:7947", i+1), fmt.Sprintf("192.0.2.%d:7947", i+1)}
	}
	return cluster(at)
}

func TestThroughTheKernel(t *testing.T) {
	if !namespace(t) {
		return
	}
	all := three()
	r1, r2, r3 := prepare(t, all["r1"]).run(t), prepare(t, all["r2"]).run(t), prepare(t, all["r3"]).run(t)
	await(t, "all up", func() bool { return len(r1.Peers()) == 2 && len(r2.Peers()) == 2 && len(r3.Peers()) == 2 })
	await(t, "told", func() bool { return r1.count("up r2")+r1.count("up r3") == 2 })

	const n = 100_000
	begin := time.Now()
	for i := range n {
		for _, to := range []string{"r2", "r3"} {
			for !r1.Send(to, fmt.Appendf(nil, "%d %090d", i, 0)) {
				t.Fatalf("frame %d is not taken by the session with %s: %v, %v", i, to, r1.told(), r1.Counters())
			}
		}
		if i%10_000 == 5000 { // a queue takes 40,000
			if err := barrier(r1, "r2"); err != nil {
				t.Fatal(err)
			}
			if err := barrier(r1, "r3"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, to := range []string{"r2", "r3"} {
		if err := barrier(r1, to); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("2 × %d frames in %v", n, time.Since(begin))
	for _, r := range []*node{r2, r3} {
		got := r.got()
		if len(got) != n {
			t.Fatalf("%d frames came", len(got))
		}
		for i, f := range got {
			if !strings.HasPrefix(f, fmt.Sprint(i, " ")) {
				t.Fatalf("frame %d is %s", i, f)
			}
		}
	}
	r2.end()
	await(t, "r2 left", func() bool { return r1.count("down r2 left") == 1 && r3.count("down r2 left") == 1 })
	if r1.count("down r3 left") != 0 {
		t.Error(r1.told())
	}
}

// TestStoppedProcess: a peer that is frozen is noticed in time, holds up nobody,
// and comes back.
func TestStoppedProcess(t *testing.T) {
	if !namespace(t) {
		return
	}
	all := three()
	frozen := child(t, all["r2"])
	r1, r3 := prepare(t, all["r1"]).run(t), prepare(t, all["r3"]).run(t)
	for i := range 2 {
		await(t, "up", func() bool { return r1.last() == "up r2" || r1.last() == "up r3" && r1.count("up r2") == i+1 })
		await(t, "r3 up", func() bool { return r1.count("up r3") == 1 && r3.count("up r1") == 1 })
		if err := barrier(r1, "r2"); err != nil {
			t.Fatal(err)
		}
		frozen.Signal(syscall.SIGSTOP)
		begin := time.Now()
		frame := make([]byte, 1000)
		for r1.count("down r2 timeout") == i {
			r1.Send("r2", frame)
			if !r1.Send("r3", frame) {
				t.Fatal("r3 takes no frames")
			}
			if err := barrier(r1, "r3"); err != nil {
				t.Fatal(err)
			}
			if time.Since(begin) > 8*time.Second {
				t.Fatalf("not noticed: %v", r1.told())
			}
		}
		took := time.Since(begin)
		t.Logf("noticed after %v", took)
		if took > 2500*time.Millisecond { // 1.5 s on a quiet machine
			t.Errorf("noticed after %v", took)
		}
		frozen.Signal(syscall.SIGCONT)
		begin = time.Now()
		await(t, "up again", func() bool { return r1.count("up r2") == i+2 })
		t.Logf("up again after %v", time.Since(begin))
	}
	if n := r1.count("down r3 timeout") + r1.count("down r3 lost"); n > 0 {
		t.Error(r1.told())
	}
}

// TestAddressesComeAndGo: one that is not there yet is waited for; when the
// one in use dies, the other takes over.
func TestAddressesComeAndGo(t *testing.T) {
	if !namespace(t) {
		return
	}
	netlab.Sh(t, "ip addr del 10.0.0.2/32 dev lo")
	all := three()
	r1, r2 := prepare(t, all["r1"]).run(t), prepare(t, all["r2"]).run(t)
	via := func() string {
		if s := r1.Sessions.session("r2"); s != nil {
			return s.remote.Addr().String()
		}
		return ""
	}
	await(t, "up", func() bool { return r1.count("up r2") == 1 && r2.count("up r1") == 1 })
	if via() != "192.0.2.2" {
		t.Errorf("via %s", via())
	}
	netlab.Sh(t, "ip addr add 10.0.0.2/32 dev lo")
	await(t, "listening there", func() bool { return strings.Contains(netlab.Sh(t, "ss -Hltn"), "10.0.0.2:7947") })
	netlab.Sh(t, "ip addr del 192.0.2.2/32 dev lo; ip route add blackhole 192.0.2.2")
	begin := time.Now()
	await(t, "up again", func() bool { return r1.count("up r2") == 2 && via() == "10.0.0.2" })
	t.Logf("up on the other address after %v: %v", time.Since(begin), r1.told())
}

// TestJoinOnThisPort: the server of join answers here while a ticket is valid.
func TestJoinOnThisPort(t *testing.T) {
	if !namespace(t) {
		return
	}
	server, err := join.New(join.Config{Seed: [32]byte{9}, Give: func(context.Context, join.Request) (join.Bundle, error) {
		file := []byte("cluster: home\n")
		return join.Bundle{Cluster: "home", File: file, Key: []byte("key\n"), Generation: 1, Hash: join.Hash(file)}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	all := three()
	c := all["r2"]
	c.Other = func(alpn string) (*tls.Config, func(context.Context, net.Conn)) {
		if settings, proto := server.TLS(); proto == alpn && server.Open() {
			return settings, server.Serve
		}
		return nil, nil
	}
	r1, r2 := prepare(t, all["r1"]).run(t), prepare(t, c).run(t)
	await(t, "up", func() bool { return r1.count("up r2") == 1 && r2.count("up r1") == 1 })

	request := join.Request{Node: "r9", Version: "1"}
	fetch := func(ticket join.Ticket) error {
		_, err := join.Fetch(ctx, "10.0.0.2:7947", ticket, request)
		return err
	}
	ticket, err := server.Issue(ctx, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := fetch(ticket); err != nil {
		t.Error(err)
	}
	await(t, "closed", func() bool { return !server.Open() })
	wantError(t, fetch(ticket), "takes no new router at this moment")
	if r1.count("down r2 lost") > 0 {
		t.Error(r1.told())
	}
}
