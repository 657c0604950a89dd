package peer

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// teller is a Handler that notes what it got; on is called in it.
type teller struct {
	recorder
	got []string
	on  func(frame string)
}

func (h *teller) Frame(_ string, frame []byte, more bool) {
	s := string(frame)
	if more {
		s += "+"
	}
	h.got = append(h.got, s)
	if h.on != nil {
		h.on(string(frame))
	}
}

// TestDelivery: the order in which a handler gets what came, whether it is told
// that there is more, and when a mark counts as reached.
func TestDelivery(t *testing.T) {
	s := newSession(&stream{node: "r2"}, DefaultQueue)
	h := &teller{}
	reached := func() uint64 { s.out.mu.Lock(); defer s.out.mu.Unlock(); return s.out.done.n }
	h.on = func(frame string) {
		if frame == "b" { // it comes while b is handled
			s.in.put(true, appendFrame(appendFrame(nil, kindUrgent, []byte("u")), kindUrgent, []byte("v")))
		}
		if frame == "d" && reached() != 1 {
			t.Errorf("mark %d is told at d", reached())
		}
	}
	var b []byte
	for _, f := range []string{"a", "b", "c", "mark 1", "d", "e", "mark 2"} {
		var n uint64
		if _, err := fmt.Sscanf(f, "mark %d", &n); err == nil {
			b = appendNumber(b, kindMark, n)
		} else {
			b = appendFrame(b, kindData, []byte(f))
		}
	}
	d := delivery{session: s, handler: h}
	s.in.put(false, b)
	d.bulk(s.in.take(nil))
	if diff := cmp.Diff([]string{"a+", "b+", "u+", "v", "c", "d+", "e"}, h.got); diff != "" {
		t.Error(diff)
	}
	if reached() != 2 || d.handled != uint64(len(b)+2*(headerSize+1)) {
		t.Errorf("mark %d is told, %d bytes are handled", reached(), d.handled)
	}
}
