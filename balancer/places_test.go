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

// TestPlacesTravel: what is told of a full set is small, and arrives as it is.
func TestPlacesTravel(t *testing.T) {
	var places []Place
	for i := range MaxPlaces {
		places = append(places, Place{
			Policy: "shops", Uplink: "cable", Source: addr("192.168.77.10"), Left: time.Duration(i) * time.Second,
			Destination: netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}),
		})
	}
	places[MaxPlaces-1] = Place{Policy: "shops", Uplink: "cable", Source: addr("2001:db8::1"), Left: time.Minute}
	b := EncodePlaces(places)
	if each := len(b) / len(places); each > 17 {
		t.Errorf("%d bytes for each place", each)
	}
	got, err := DecodePlaces(b)
	if d := cmp.Diff(places, got, cmpopts.EquateComparable(netip.Addr{})); d != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, d)
	}
	if _, err := DecodePlaces(EncodePlaces(append(places, places[0]))); err == nil {
		t.Error("a message with more than MaxPlaces is read")
	}
}

// FuzzDecodePlaces: what comes from another node is read, or refused.
func FuzzDecodePlaces(f *testing.F) {
	f.Add(EncodePlaces([]Place{{Policy: "a", Uplink: "b", Source: addr("192.0.2.1"), Left: time.Second}}))
	f.Add([]byte(`[{"source":"x"}]`))
	f.Add([]byte(`[{"source":-4,"places":"AAAA"}]`))
	f.Add([]byte(`[{"source":4,"places":"AAAA"},{"destination":16}]`))
	f.Add([]byte(`[{"policy":"a","places":"AAAA"},{"policy":"b","places":"AAAA"},{"policy":"a","places":"AAAA"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		places, err := DecodePlaces(b)
		if err != nil {
			return
		}
		if len(places) > MaxPlaces {
			t.Errorf("%d places", len(places))
		}
		told := EncodePlaces(places) // which puts those of one kind together
		again, err := DecodePlaces(told)
		if d := cmp.Diff(string(told), string(EncodePlaces(again))); d != "" || err != nil || len(again) != len(places) {
			t.Errorf("%v\n%s", err, d)
		}
	})
}
