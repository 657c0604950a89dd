package kernel

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	ct "harouter/conntracksync"
	"harouter/test/netlab"
)

// TestIgnore: of connections of some addresses only the end is told, from the
// call on that says so until the one that says otherwise.
func TestIgnore(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, natHook)
	inject := injector(t)
	var h heard
	var l *Listener
	settled := listenWith(t, 8<<20, inject.Port(), &h, &l)
	other := injector(t) // its changes are told
	ctx := context.Background()
	many := []netip.Addr{netip.MustParseAddr("2001:db8::1")}
	for i := range 2 * maxIgnored {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	for _, c := range []struct {
		name   string
		ignore []netip.Addr
		want   string
	}{
		{"none", nil, "began, changed, ended"},
		{"the source", []netip.Addr{netip.MustParseAddr("10.0.0.9")}, "ended"},
		{"the destination", []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.1")}, "ended"},
		{"others", many, "began, changed, ended"},
		{"the last of many", slices.Concat(many[:maxIgnored], []netip.Addr{netip.MustParseAddr("198.51.100.1")}), "ended"},
		{"none again", nil, "began, changed, ended"},
	} {
		if err := l.Ignore(nil); err != nil { // else the marker is not heard
			t.Fatal(err)
		}
		settled()
		h.clear()
		if err := l.Ignore(c.ignore); err != nil {
			t.Fatal(c.name, err)
		}
		f := made(1)
		must(t)(other.Install(ctx, f))
		f[0].TCP.State = ct.CloseWait
		must(t)(other.Update(ctx, f))
		must(t)(other.Delete(ctx, f))
		must(t)(inject.Install(ctx, f)) // never told
		must(t)(inject.Delete(ctx, f))
		if err := l.Ignore(nil); err != nil {
			t.Fatal(err)
		}
		settled()
		var got []string
		for _, e := range h.of(0x100) {
			if kind := fmt.Sprint(e.Kind); len(got) == 0 || got[len(got)-1] != kind {
				got = append(got, kind)
			}
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: told %s, not %s", c.name, s, c.want)
		}
	}
	if n := h.lost(); n != 0 {
		t.Errorf("%d overruns", n)
	}
	if p, err := filter(0, nil); err != nil || len(p) != 2 {
		t.Errorf("%v, %v", p, err)
	}
}

// TestIgnoreAfterClose: the descriptor may be another file's by then.
func TestIgnoreAfterClose(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	l, err := NewListener(1<<20, 0, Handler{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Ignore([]netip.Addr{netip.MustParseAddr("192.0.2.1")}); err != nil {
		t.Error(err)
	}
}
