package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	ct "harouter/conntracksync"
	"harouter/test/netlab"
)

// made are n flows that no packet made: TCP, translated, each by its own port.
func made(n int) []ct.Flow {
	flows := make([]ct.Flow, n)
	for i := range flows {
		client := netip.AddrFrom4([4]byte{10, 0, byte(i >> 15), 9})
		server, nat := netip.MustParseAddr("198.51.100.1"), netip.AddrFrom4([4]byte{203, 0, byte(i >> 15), 10})
		port := uint16(1024 + i&0x7fff)
		flows[i] = ct.Flow{
			Original: ct.Tuple{Source: client, Destination: server, Protocol: ct.TCP, SourcePort: port, DestinationPort: 443},
			Reply:    ct.Tuple{Source: server, Destination: nat, Protocol: ct.TCP, SourcePort: 443, DestinationPort: port + 1000},
			Mark:     0x100, Status: ct.SeenReply | ct.Assured, Timeout: 3600,
			TCP: ct.TCPInfo{State: ct.Established, OriginalFlags: ct.WindowScale | ct.SACK, ReplyFlags: ct.WindowScale | ct.SACK, OriginalScale: 7, ReplyScale: 8},
		}
	}
	return flows
}

// natHook has the kernel register its NAT.
const natHook = `ip link set lo up
	nft 'table inet t { chain post { type nat hook postrouting priority 100; }; }'`

func injector(t testing.TB) *Injector {
	t.Helper()
	i, err := NewInjector()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

// must checks that nothing was refused.
func must(t testing.TB) func([]Refused, error) {
	return func(refused []Refused, err error) {
		t.Helper()
		if err != nil || len(refused) > 0 {
			t.Fatalf("%v, refused %v", err, refused[:min(3, len(refused))])
		}
	}
}

// heard collects what a listener tells.
type heard struct {
	mu       sync.Mutex
	events   []ct.Event
	overruns int
}

// markerPort is that of a flow whose end says that all before it was heard.
const markerPort = 7

// listen runs a listener until the test ends; after each call of the returned
// function all that had happened before it has been heard.
func listen(t *testing.T, buffer int, ignore uint32, h *heard) func() {
	t.Helper()
	return listenWith(t, buffer, ignore, h, new(*Listener))
}

// listenWith is listen that tells who listens.
func listenWith(t *testing.T, buffer int, ignore uint32, h *heard, who **Listener) func() {
	t.Helper()
	seen, marked := make(chan struct{}), false
	l, err := NewListener(buffer, ignore, Handler{
		Event: func(e *ct.Event) {
			if e.Flow.Original.DestinationPort != markerPort {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.events = append(h.events, *e)
				return
			}
			marked = marked || e.Kind == ct.Ended
		},
		Overrun: func() { h.mu.Lock(); defer h.mu.Unlock(); h.overruns++ },
		Broken:  func(err error) { t.Error(err) },
		Idle: func() {
			if marked {
				marked = false
				seen <- struct{}{}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	*who = l
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	wake := injector(t)
	return func() {
		t.Helper()
		f := made(1)
		f[0].Original.DestinationPort, f[0].Reply.SourcePort = markerPort, markerPort
		for until := time.Now().Add(10 * time.Second); ; {
			must(t)(wake.Install(context.Background(), f))
			must(t)(wake.Delete(context.Background(), f))
			select {
			case <-seen:
				return
			case <-time.After(time.Second): // it got lost in an overrun
				if time.Now().After(until) {
					t.Fatal("the listener is never idle")
				}
			}
		}
	}
}

func (h *heard) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = nil
}

// lost is how often something got lost.
func (h *heard) lost() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.overruns
}

func (h *heard) of(mark uint32) (events []ct.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.Flow.Mark == mark {
			events = append(events, e)
		}
	}
	return events
}

// TestEvents: real packets are heard from first to last, what the injector does
// is not.
func TestEvents(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, natHook+`
		nft 'table inet t { chain out { type filter hook output priority -150; tcp dport 80 ct mark set 0x200; }; }'`)
	inject := injector(t)
	var h heard
	settled := listen(t, 8<<20, inject.Port(), &h)
	must(t)(inject.Install(context.Background(), made(10)))

	l, err := net.Listen("tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	other.Close()
	settled()
	if got := h.of(0x100); len(got) != 0 {
		t.Errorf("its own: %+v", got)
	}
	events := h.of(0x200)
	states := ""
	for _, e := range events {
		if e.Told&ct.ToldState != 0 {
			states += fmt.Sprintf("%v %v, ", e.Kind, e.Flow.TCP.State)
		}
		if e.Port != 0 || e.Flow.Original.DestinationPort != 80 {
			t.Errorf("%+v", e)
		}
	}
	if want := "began syn-sent, changed syn-received, changed established, "; len(states) < len(want) || states[:len(want)] != want {
		t.Errorf("heard %s", states)
	}
	if err := DeleteByMark(context.Background(), 0x200, mask); err != nil {
		t.Fatal(err)
	}
	settled()
	events = h.of(0x200)
	if last := events[len(events)-1]; last.Kind != ct.Ended || last.Port == 0 {
		t.Errorf("the last is %+v", last)
	}
	if n := h.lost(); n != 0 {
		t.Errorf("%d overruns", n)
	}
}

// TestOverrun: with a buffer that is too small it is told that something got
// lost, and listening goes on.
func TestOverrun(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, natHook)
	var h heard
	inject := injector(t)
	settled := listen(t, 4096, 0, &h)
	for n := 0; h.lost() == 0 && n < 20; n++ {
		must(t)(inject.Install(context.Background(), made(2000)))
		must(t)(inject.Delete(context.Background(), made(2000)))
		settled()
	}
	if h.lost() == 0 {
		t.Fatal("no overrun was told")
	}
	// What comes later is heard, as soon as there is room between the ends that
	// are told again.
	later := made(1)
	must(t)(inject.Install(context.Background(), later))
	err := netlab.WaitFor("a later change", 10*time.Second, func() bool {
		later[0].Mark++
		must(t)(inject.Update(context.Background(), later))
		settled()
		return len(h.of(later[0].Mark)) > 0
	})
	if err != nil {
		t.Error(err)
	}
}

// TestThroughput: 100,000 flows are installed, read and heard in a fraction of a
// second. The limits are ten times what an idle machine takes.
func TestThroughput(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, natHook)
	if err := AlwaysTell(); err != nil {
		t.Fatal(err)
	}
	const n = 100000
	flows, inject := made(n), injector(t)
	took := func(what string, limit time.Duration, f func()) {
		t.Helper()
		began := time.Now()
		f()
		d := time.Since(began)
		t.Logf("%s of %d: %v, %d ns each", what, n, d.Round(time.Millisecond), d.Nanoseconds()/n)
		if d > limit {
			t.Errorf("%s took %v", what, d)
		}
	}
	took("install", 3*time.Second, func() { must(t)(inject.Install(context.Background(), flows)) })
	took("update", 2*time.Second, func() { must(t)(inject.Update(context.Background(), flows)) })
	took("time", 2*time.Second, func() { must(t)(inject.SetTimeouts(context.Background(), flows)) })
	read := 0
	took("dump", 3*time.Second, func() {
		err := Dump(context.Background(), Filter{}, func() { read = 0 }, func(*ct.Flow) { read++ })
		if err != nil || read != n {
			t.Errorf("%d, %v", read, err)
		}
	})
	var h heard
	settled := listen(t, 64<<20, 0, &h)
	took("delete and hear", 10*time.Second, func() {
		must(t)(inject.Delete(context.Background(), flows))
		settled()
		// An end that found no room is told again.
		if err := netlab.WaitFor("all ends", 20*time.Second, func() bool { return len(h.of(0x100)) >= n }); err != nil {
			t.Errorf("heard %d of %d: %v", len(h.of(0x100)), n, err)
		}
	})
	t.Logf("%d overruns", h.lost())
}

func FuzzEvents(f *testing.F) {
	f.Add(message(newFlow, unix.NLM_F_CREATE, 0, entry(sample)))
	f.Add(append(message(newFlow, 0, 0, entry(sample6)), message(newFlow+msgDelete, 0, 0, entry(sampleTCP))...))
	f.Add(message(ofExpectation|msgNew, unix.NLM_F_CREATE, 0, expectationEntry(someExpectation)))
	f.Fuzz(func(t *testing.T, b []byte) {
		room := len(b)
		var e ct.Event
		_ = events(b, &e, func() {
			if room -= sizeHeader; room < 0 || e.Kind < ct.Began || e.Kind > ct.Ended {
				t.Fatalf("%x: %+v", b, e)
			}
		})
		room = 4 * len(b)
		_, _ = answers(b, 0, 3, func([]byte) error { return errors.New("entry") }, func(n int, _ unix.Errno) {
			if room--; room < 0 || n > 2 {
				t.Fatalf("%x: %d", b, n)
			}
		})
	})
}
