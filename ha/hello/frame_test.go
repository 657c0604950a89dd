package hello

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testSeal(t testing.TB, cluster string, keys ...byte) *seal {
	t.Helper()
	var all [][32]byte
	for _, k := range keys {
		all = append(all, [32]byte{k})
	}
	s, err := newSeal(cluster, 51, all)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var testFrame = frame{
	Kind: kindMessage, From: "r1", To: "r2", Lan: "office", Life: 7, Seq: 1 << 40, Challenge: 9,
	Echoes: []echo{{"r2", 3}, {"r3", 4}}, Payload: []byte("payload"),
}

func TestSeal(t *testing.T) {
	sealed := testSeal(t, "home", 1).close(testFrame)
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	retagged := bytes.Clone(sealed)
	retagged[len(magic)] ^= 1
	for _, c := range []struct {
		name string
		by   *seal
		b    []byte
		want error
	}{
		{"the same key", testSeal(t, "home", 1), sealed, nil},
		{"an older key", testSeal(t, "home", 2, 1), sealed, nil},
		{"another key", testSeal(t, "home", 2), sealed, errKey},
		{"another cluster", testSeal(t, "office", 1), sealed, errOther},
		{"changed", testSeal(t, "home", 1), changed, errKey},
		{"another tag", testSeal(t, "home", 1), retagged, errOther},
		{"cut off", testSeal(t, "home", 1), sealed[:headLen+3], errGarbage},
		{"nothing", testSeal(t, "home", 1), nil, errOther},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.by.open(c.b)
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if c.want == nil {
				if diff := cmp.Diff(testFrame, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	if bytes.Contains(sealed, []byte("payload")) {
		t.Error("it travels in the clear")
	}
}

// FuzzParseFrame: what opens may still be of another version; what can be read
// survives a round trip.
func FuzzParseFrame(f *testing.F) {
	f.Add(testFrame.append(nil))
	f.Add(frame{Kind: kindSeen, From: "r", Lan: strings.Repeat("x", 255)}.append(nil))
	f.Add([]byte{})
	f.Add([]byte{1, 200, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseFrame(b)
		if err != nil {
			return
		}
		again, err := parseFrame(got.append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Error(diff)
		}
	})
}

// FuzzOpen: nothing on the wire makes it fall over.
func FuzzOpen(f *testing.F) {
	s := testSeal(f, "home", 1)
	f.Add(s.close(testFrame))
	f.Add([]byte(magic))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = s.open(b) })
}
