package ha

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"net/netip"
)

// TestHeardRepeats: a state that is told again is not decoded again, another one
// is, and what is wrong changes nothing.
func TestHeardRepeats(t *testing.T) {
	var h Heard
	want := someState()
	first := want.Encode()
	want.Effective = 7
	second := want.Encode()
	for i, c := range []struct {
		node      string
		bytes     []byte
		ok        bool
		effective uint8
	}{
		{"r1", first, true, 149}, {"r1", first, true, 149}, {"r1", second, true, 7}, {"r2", first, false, 0},
		{"r1", []byte("{"), false, 0}, {"r1", second, true, 7}, {"r1", first, true, 149},
	} {
		got, err := h.State(c.node, c.bytes)
		if (err == nil) != c.ok || got.Effective != c.effective {
			t.Errorf("%d: %v, effective priority %d", i, err, got.Effective)
		}
	}
	if n := testing.AllocsPerRun(10, func() { h.State("r1", first) }); n != 0 {
		t.Errorf("a state that is known costs %v allocations", n)
	}
	got, err := h.State("r1", first)
	if d := cmp.Diff(someState(), got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || d != "" {
		t.Errorf("%v, -want +got:\n%s", err, d)
	}
	for i := range 2 * maxHeard {
		s := someState()
		s.Node = string(rune('a' + i))
		if _, err := h.State(s.Node, s.Encode()); err != nil || len(h.last) > maxHeard {
			t.Fatalf("%v, %d remembered", err, len(h.last))
		}
	}
}
