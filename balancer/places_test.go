package balancer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestPlacesAreToldOnce(t *testing.T) {
	now := time.Unix(0, 0)
	place := func(uplink string, left time.Duration) Place {
		return Place{Policy: "shops", Uplink: uplink, Source: addr("192.168.77.10"), Left: left}
	}
	var told Told
	for i, step := range []struct {
		after time.Duration
		place Place
		news  bool
	}{
		{0, place("cable", time.Minute), true},
		{time.Second, place("cable", 59*time.Second), false},
		{time.Second, place("cable", time.Minute), false}, // refreshed, but not by much
		{20 * time.Second, place("cable", time.Minute), true},
		{time.Second, place("dsl", time.Minute), true},
		{time.Second, place("cable", time.Minute), true}, // back again: they know it on dsl
		{2 * time.Minute, place("cable", time.Minute), true},
	} {
		now = now.Add(step.after)
		if got := told.News([]Place{step.place}, now); (len(got) == 1) != step.news {
			t.Errorf("step %d: %v", i, got)
		}
	}
	told.News(nil, now) // its uplink died, and with that it was forgotten everywhere
	if got := told.News([]Place{place("cable", time.Minute)}, now); len(got) != 1 {
		t.Error("what is learned anew is not told")
	}
	told = Told{}
	if got := told.News([]Place{place("cable", time.Minute)}, now); len(got) != 1 {
		t.Error("a node that forgot whom it told does not tell")
	}
}

// TestLatest: messages that waited are learned at once, and of two words on the
// same host the later one holds.
func TestLatest(t *testing.T) {
	place := func(policy, uplink, source string) Place {
		return Place{Policy: policy, Uplink: uplink, Source: addr(source), Left: time.Minute}
	}
	got := Latest([]Place{
		place("shops", "cable", "192.168.77.10"), place("banks", "cable", "192.168.77.10"),
		place("shops", "cable", "192.168.77.11"), place("shops", "dsl", "192.168.77.10"),
	})
	want := []Place{place("banks", "cable", "192.168.77.10"), place("shops", "cable", "192.168.77.11"), place("shops", "dsl", "192.168.77.10")}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// FuzzDecodePlaces: what comes from another node is read, or refused.
func FuzzDecodePlaces(f *testing.F) {
	f.Add(EncodePlaces([]Place{{Policy: "a", Uplink: "b", Source: addr("192.0.2.1"), Left: time.Second}}))
	f.Add([]byte(`[{"source":"x"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		places, err := DecodePlaces(b)
		if err != nil {
			return
		}
		again, err := DecodePlaces(EncodePlaces(places))
		if d := cmp.Diff(places, again, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); d != "" || err != nil {
			t.Errorf("%v\n%s", err, d)
		}
	})
}
