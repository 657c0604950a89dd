package guard

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var compareAddrs = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func FuzzDecodeMessage(f *testing.F) {
	full := site(true, true)
	for _, m := range []message{{Kind: kindState, State: &full}, {Kind: kindState, State: &State{}}, {Kind: kindRetire}, {Kind: kindProblem, Text: "no"}, {Kind: kindTaken, State: &full}} {
		b, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{"", "null", "{}", `{"kind":"state"}`, `{"kind":"?"}`, `{"kind":"state","state":{"local":"fe80::1%lan0","hang":-1}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			return // too long
		}
		m2, err := decodeMessage(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		third, err := m2.encode()
		if err != nil || string(third) != string(again) {
			t.Fatalf("%s\n%s\n%v", again, third, err)
		}
		if m.State != nil { // what a socket brings must not upset the machine
			var g machine
			g.step(0, gotState{State: *m.State})
			g.step(0, gone{})
			g.step(0, advert(nil))
		}
	})
}

func TestStateRoundTrip(t *testing.T) {
	want := site(true, false)
	want.Senders = append(want.Senders, netip.MustParseAddr("fe80::1%lan0"))
	b, err := message{Kind: kindState, State: &want}.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got.State, compareAddrs); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
}

func TestStateThatIsTooLarge(t *testing.T) {
	s := State{Devices: []string{strings.Repeat("x", maxMessage)}}
	if err := (&Client{page: mustPage(t)}).Set(s); err == nil || !strings.Contains(err.Error(), "more than the limit") {
		t.Fatalf("%v", err)
	}
}

func mustPage(t *testing.T) *page {
	t.Helper()
	p, f, err := newPage()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	return p
}

// What the daemon said before it died counts, also when the guard's own words
// lie unread in its socket: the kernel then reports a reset first.
func TestPullReadsWhatWasSaidBeforeTheEnd(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, seqpacket, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	for _, s := range []string{"one", "", strings.Repeat("2", 5000)} {
		if err := push(fds[1], []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := push(fds[0], []byte("unread")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if b, err := pull(fds[0], &buf); err != nil || string(b) != "one" {
		t.Fatalf("%q, %v", b, err)
	}
	if b, err := pull(fds[0], &buf); err != nil || len(b) != 0 {
		t.Fatalf("an empty packet: %q, %v", b, err)
	}
	unix.Close(fds[1])
	if b, err := pull(fds[0], &buf); err != nil || len(b) != 5000 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if _, err := pull(fds[0], &buf); err != errEnd {
		t.Fatalf("%v, want the end", err)
	}
}

func FuzzDecodeKept(f *testing.F) {
	f.Add([]byte(`{"boot":"here","state":{"holding":true,"peer_alive":true,"words":[{"source":"192.0.2.1","to":"192.0.2.2:7946","bytes":"AAAA"}]}}`))
	f.Add([]byte(`{"boot":"before","state":{"holding":true}}`))
	f.Add([]byte(`{"boot":"here"}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeKept(b, "here")
		if err != nil && s != nil {
			t.Errorf("%v and %v", s, err)
		}
	})
}

func TestKept(t *testing.T) {
	dir := t.TempDir()
	if s, err := remembered(dir); s != nil || err != nil {
		t.Fatalf("%v, %v", s, err)
	}
	want := site(true, true)
	want.Words = []Word{{Source: want.Local, To: netip.MustParseAddrPort("192.0.2.2:7946"), Bytes: []byte("sealed")}}
	if err := keep(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := remembered(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&want, got, compareAddrs, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Error(d)
	}
	info, err := os.Stat(filepath.Join(dir, keptName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others can read the secret", info.Mode(), err)
	}
	if s, err := decodeKept([]byte(`{"boot":"before","state":{"holding":true}}`), "here"); s != nil || err != nil {
		t.Errorf("from before the machine started: %v, %v", s, err)
	}
}
