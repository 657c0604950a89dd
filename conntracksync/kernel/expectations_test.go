package kernel

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	ct "harouter/conntracksync"
	"harouter/test/netlab"
)

// ftpHelper has a router look into FTP.
const ftpHelper = `
	for r in r1 r2; do
		ip netns exec $r nft -f - <<-E
			table inet f {
				ct helper ftp4 { type "ftp" protocol tcp; l3proto ip; }
				ct helper ftp6 { type "ftp" protocol tcp; l3proto ip6; }
				chain look { type filter hook prerouting priority 0
					ip protocol tcp tcp dport 21 ct helper set "ftp4"
					ip6 nexthdr tcp tcp dport 21 ct helper set "ftp6"
				}
			}
			E
	done`

// ftp is a control connection, both ends of it.
type ftp struct {
	client, server     net.Conn
	fromServer, fromUs *bufio.Reader // what the client reads, what the server reads
}

func dialFTP(t *testing.T, server string) *ftp {
	t.Helper()
	var l net.Listener
	var f ftp
	inside(t, "server", func() (err error) { l, err = net.Listen("tcp", server); return err })
	defer l.Close()
	inside(t, "client", func() (err error) { f.client, err = net.DialTimeout("tcp", server, 3*time.Second); return err })
	var err error
	if f.server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.client.Close(); f.server.Close() })
	f.fromServer, f.fromUs = bufio.NewReader(f.client), bufio.NewReader(f.server)
	return &f
}

// ask has the client say a line and the server answer it; it returns both as
// they arrived.
func (f *ftp) ask(t *testing.T, line, reply string) (heard, answered string) {
	t.Helper()
	read := func(c net.Conn, r *bufio.Reader) string {
		if err := c.SetReadDeadline(time.Now().Add(3 * time.Second)); err != nil {
			t.Fatal(err)
		}
		s, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q, %q: %q, %v", line, reply, s, err)
		}
		return strings.TrimSpace(s)
	}
	if _, err := fmt.Fprintf(f.client, "%s\r\n", line); err != nil {
		t.Fatal(err)
	}
	heard = read(f.server, f.fromUs)
	if _, err := fmt.Fprintf(f.server, "%s\r\n", reply); err != nil {
		t.Fatal(err)
	}
	return heard, read(f.client, f.fromServer)
}

// expectations are those of a router.
func expectations(t *testing.T, router string) (all []ct.Expectation) {
	t.Helper()
	inside(t, router, func() error {
		return DumpExpectations(context.Background(), func() { all = nil }, func(e *ct.Expectation) { all = append(all, *e) })
	})
	return all
}

// TestExpectations is the proof that matters: an FTP client names its port
// through one router, and the data connection, which nobody has seen, comes
// through another one that was told of the expectation, and drops what it was
// not told of.
func TestExpectations(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, twoRouters+ftpHelper)
	plug(t, "r1", "r2")

	var mu sync.Mutex
	var events []ct.Event
	ctx, cancel := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	defer listening.Wait()
	defer cancel()
	var l *Listener
	inside(t, "r1", func() (err error) {
		l, err = NewListener(1<<20, 0, Handler{Idle: func() {}, Overrun: func() { t.Error("overrun") }, Broken: func(err error) { t.Error(err) },
			Event: func(e *ct.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Expectation != nil {
					events = append(events, *e)
				}
			}})
		return err
	})
	listening.Go(func() { _ = l.Run(ctx) })

	four, six := dialFTP(t, "198.51.100.1:21"), dialFTP(t, "[fd00:98::1]:21")
	for _, f := range []*ftp{four, six} {
		f.ask(t, "USER x", "331 y") // the helper must have seen the end of a line
	}
	var active net.Listener
	inside(t, "client", func() (err error) { active, err = net.Listen("tcp", "192.168.77.9:5000"); return err })
	defer active.Close()
	var passive net.Listener
	inside(t, "server", func() (err error) { passive, err = net.Listen("tcp", "[fd00:98::1]:6000"); return err })
	defer passive.Close()
	if got, _ := four.ask(t, "PORT 192,168,77,9,19,136", "200 ok"); got != "PORT 198,51,100,10,19,136" {
		t.Fatalf("the server heard %q", got)
	}
	six.ask(t, "EPSV", "229 Entering Extended Passive Mode (|||6000|)")

	flows, expected := table(t, "r1"), expectations(t, "r1")
	if len(flows) != 2 || len(expected) != 2 {
		t.Fatalf("%d flows, %d expectations: %+v", len(flows), len(expected), expected)
	}
	for _, f := range flows {
		moved := f.Original.Source.Is4()
		if f.Helper != "ftp" || (f.Adjust != [2]ct.Adjustment{}) != moved || moved && f.Adjust[0].After != 1 {
			t.Errorf("%+v", f)
		}
	}
	mu.Lock()
	if len(events) != 2 {
		t.Errorf("%d events", len(events))
	}
	for i, e := range events {
		e.Expectation.Timeout = expected[i].Timeout
		if e.Kind != ct.Began || !containsExpectation(expected, *e.Expectation) {
			t.Errorf("%v of %+v", e.Kind, e.Expectation)
		}
	}
	mu.Unlock()

	// On the other router: twice is as good as once.
	for i := range expected {
		expected[i].Timeout = 77
	}
	for range 2 {
		install(t, "r2", flows)
		expect(t, "r2", expected, 0)
	}
	back := expectations(t, "r2")
	for i := range back {
		if back[i].Timeout < 75 || back[i].Timeout > 77 {
			t.Errorf("it has %d s", back[i].Timeout)
		}
		back[i].Timeout = 77
		if !containsExpectation(expected, back[i]) {
			t.Errorf("%+v is none of %+v", back[i], expected)
		}
	}
	for _, f := range table(t, "r2") {
		for _, want := range flows {
			if want.Original == f.Original && (want.Adjust != f.Adjust || want.Helper != f.Helper) {
				t.Errorf("%+v, want %+v", f, want)
			}
		}
	}
	plug(t, "r2", "r1")

	data := func(name string, from, to string, l net.Listener, address string, port int) {
		t.Helper()
		var conn net.Conn
		inside(t, from, func() (err error) {
			d := net.Dialer{Timeout: 3 * time.Second}
			if port != 0 {
				d.LocalAddr = &net.TCPAddr{IP: net.ParseIP("198.51.100.1"), Port: port}
			}
			conn, err = d.Dial("tcp", address)
			return err
		})
		defer conn.Close()
		other, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if err := say(conn, other, strings.Repeat("data", 2000)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		found := false
		for _, f := range all(t, "r2") {
			if f.Status&ct.Expected != 0 && f.Original.DestinationPort == netip.MustParseAddrPort(address).Port() && f.Master.DestinationPort == 21 {
				found = true
				t.Logf("%s: %v, answers %v, of %v", name, f.Original, f.Reply, f.Master)
			}
		}
		if !found {
			t.Errorf("%s: no expected flow: %+v", name, all(t, "r2"))
		}
	}
	data("active", "server", "client", active, "198.51.100.10:5000", 20)
	data("passive", "client", "server", passive, "[fd00:98::1]:6000", 0)
	if left := expectations(t, "r2"); len(left) != 0 {
		t.Errorf("still expected: %+v", left)
	}
	// The control connections go on, also the one whose sequence numbers are
	// moved, and the helper looks at what comes next.
	for i, f := range []*ftp{four, six} {
		if heard, answered := f.ask(t, "NOOP", "200 noop"); heard != "NOOP" || answered != "200 noop" {
			t.Errorf("%d: %q, %q", i, heard, answered)
		}
	}
	if got, _ := four.ask(t, "PORT 192,168,77,9,19,137", "200 ok"); got != "PORT 198,51,100,10,19,137" {
		t.Errorf("the server heard %q", got)
	}
	next := expectations(t, "r2")
	if len(next) != 1 {
		t.Fatalf("%+v", next)
	}
	inside(t, "r2", func() error {
		i, err := NewInjector()
		if err != nil {
			return err
		}
		defer i.Close()
		for range 2 {
			must(t)(i.Unexpect(context.Background(), next))
		}
		// A read tells what no event does.
		read := append(table(t, "r2"), made(1)[0])
		want := read[0].ID
		for j := range read {
			read[j].ID, read[j].Adjust = 9, [2]ct.Adjustment{}
		}
		if err := i.Read(context.Background(), read); err != nil {
			return err
		}
		if read[0].ID != want || read[len(read)-1].ID != 0 {
			t.Errorf("%+v", read)
		}
		moved := 0
		for _, f := range read {
			if f.Adjust[0].After == 2 {
				moved++
			}
		}
		if moved != 1 {
			t.Errorf("%d moved by 2: %+v", moved, read)
		}
		// No master: refused, and no more than that.
		next[0].Master.SourcePort++
		if refused, err := i.Expect(context.Background(), next); err != nil || len(refused) != 1 {
			t.Errorf("%v, %v", refused, err)
		}
		return nil
	})
	if left := expectations(t, "r2"); len(left) != 0 {
		t.Errorf("still expected: %+v", left)
	}
}

func containsExpectation(all []ct.Expectation, e ct.Expectation) bool {
	for _, x := range all {
		x.Timeout = e.Timeout
		if x == e {
			return true
		}
	}
	return false
}

func all(t *testing.T, router string) (flows []ct.Flow) {
	t.Helper()
	inside(t, router, func() error {
		return Dump(context.Background(), Filter{}, func() { flows = nil }, func(f *ct.Flow) { flows = append(flows, *f) })
	})
	return flows
}

func expect(t *testing.T, router string, all []ct.Expectation, refuse int) {
	t.Helper()
	inside(t, router, func() error {
		i, err := NewInjector()
		if err != nil {
			return err
		}
		defer i.Close()
		refused, err := i.Expect(context.Background(), all)
		if len(refused) != refuse {
			t.Errorf("refused: %v", refused)
		}
		return err
	})
}

// someExpectation is one with everything.
var someExpectation = ct.Expectation{
	Tuple:  ct.Tuple{Source: sample.Original.Source, Destination: sample.Original.Destination, Protocol: ct.TCP, DestinationPort: 5000},
	Mask:   ct.Tuple{Source: netip.MustParseAddr("255.255.255.255"), Destination: netip.MustParseAddr("255.255.255.255"), Protocol: ct.TCP, DestinationPort: 65535},
	Master: sampleTCP.Original, Zone: 9, Timeout: 300, Class: 1, Flags: ct.Permanent, Helper: "sip", Function: "nat-follow-master",
	NAT: ct.Tuple{Source: netip.MustParseAddr("192.168.77.9"), Destination: netip.MustParseAddr("0.0.0.0"), Protocol: ct.TCP, SourcePort: 5000}, Direction: 1,
}

func expectationEntry(e ct.Expectation) []byte {
	return appendUint32(appendExpectation([]byte{unix.AF_INET, 0, 0, 0}, &e), ctaExpectTimeout, e.Timeout)
}

func TestParseExpectation(t *testing.T) {
	b := expectationEntry(someExpectation)
	var got ct.Expectation
	if err := parseExpectation(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(someExpectation, got, equalAddr); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for name, b := range map[string][]byte{
		"nothing":               nil,
		"half":                  b[:len(b)-2],
		"a long helper":         nest([]byte{0, 0, 0, 0}, ctaExpectHelper, []byte(strings.Repeat("x", 16))),
		"a function of 40":      nest([]byte{0, 0, 0, 0}, ctaExpectFunction, []byte(strings.Repeat("x", 40))),
		"a direction of 1 byte": nest([]byte{0, 0, 0, 0}, ctaExpectNAT, nest(nil, ctaExpectNATDirection, []byte{1})),
	} {
		if err := parseExpectation(b, &got); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}

func FuzzParseExpectation(f *testing.F) {
	f.Add(expectationEntry(someExpectation))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e ct.Expectation
		_ = parseExpectation(b, &e)
	})
}
