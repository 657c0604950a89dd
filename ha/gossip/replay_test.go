package gossip

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// here is the life of the node that receives in TestReceive.
const here = 1000

func TestReceive(t *testing.T) {
	t.Parallel()
	state := func(life, seq, bound uint64) envelope {
		return envelope{Type: typeState, From: "r2", Life: life, Seq: seq, Heard: []heard{{"r3", 5}, {"r1", bound}}, Payload: fmt.Appendf(nil, "state %d.%d", life, seq)}
	}
	message := func(life, seq, to uint64) envelope {
		return envelope{Type: typeMessage, From: "r2", Life: life, Seq: seq, To: to, Kind: "k", Payload: fmt.Appendf(nil, "message %d.%d", life, seq)}
	}
	ahead := func(life, to uint64) envelope {
		return envelope{Type: typeAhead, From: "r2", Life: life, To: to, Kind: "k", Payload: fmt.Appendf(nil, "ahead %d", life)}
	}
	for name, c := range map[string]struct {
		in   []envelope
		want []string
	}{
		"sealed ahead, sent twice":      {[]envelope{message(7, 900, here), ahead(7, here), ahead(7, here)}, []string{"message 7.900", "ahead 7", "ahead 7"}},
		"sealed ahead for any us":       {[]envelope{ahead(7, 0)}, nil},
		"sealed for an earlier us":      {[]envelope{ahead(7, here-1)}, nil},
		"sealed in an earlier life":     {[]envelope{state(8, 1, here), ahead(7, here)}, []string{"state 8.1"}},
		"states in order":               {[]envelope{state(7, 1, here), state(7, 2, here)}, []string{"state 7.1", "state 7.2"}},
		"an old state":                  {[]envelope{state(7, 2, here), state(7, 1, here), state(7, 2, here)}, []string{"state 7.2"}},
		"a state of an earlier life":    {[]envelope{state(8, 1, here), state(7, 9, here)}, []string{"state 8.1"}},
		"a restart counts anew":         {[]envelope{state(7, 9, here), state(8, 1, here)}, []string{"state 7.9", "state 8.1"}},
		"recorded before we started":    {[]envelope{state(7, 1, here-1), state(7, 2, 0)}, nil},
		"it has not heard of us":        {[]envelope{{Type: typeState, From: "r2", Life: 7, Seq: 1, Payload: []byte("x")}}, nil},
		"it remembers a later us":       {[]envelope{state(7, 1, here+500), state(7, 2, here+501), state(7, 3, here)}, []string{"state 7.2", "state 7.3"}},
		"nothing published yet":         {[]envelope{{Type: typeState, From: "r2", Life: 7, Seq: 1, Heard: []heard{{"r1", here}}}}, nil},
		"messages in any order":         {[]envelope{message(7, 2, here), message(7, 1, here)}, []string{"message 7.2", "message 7.1"}},
		"a message twice":               {[]envelope{message(7, 1, here), message(7, 2, here), message(7, 1, here)}, []string{"message 7.1", "message 7.2"}},
		"a message long ago":            {[]envelope{message(7, 1000, here), message(7, 1000-windowSize, here), message(7, 1001-windowSize, here)}, []string{"message 7.1000", fmt.Sprint("message 7.", 1001-windowSize)}},
		"a message for an earlier us":   {[]envelope{message(7, 1, here-1)}, nil},
		"a message of an earlier life":  {[]envelope{message(8, 1, here), message(7, 1, here)}, []string{"message 8.1"}},
		"a message before it heard us":  {[]envelope{message(7, 1, 0), message(7, 1, 0)}, []string{"message 7.1"}},
		"states and messages in one go": {[]envelope{state(7, 5, here), message(7, 1, here)}, []string{"state 7.5", "message 7.1"}},
		"life 0":                        {[]envelope{state(0, 1, here), message(0, 1, here)}, nil},
		"from us":                       {[]envelope{{Type: typeMessage, From: "r1", Life: 7, Seq: 1}}, nil},
		"from a stranger":               {[]envelope{{Type: typeMessage, From: "r9", Life: 7, Seq: 1}}, nil},
	} {
		var got []string
		g := New(Config{
			Node: "r1", Peers: map[string][]netip.Addr{"r2": {netip.MustParseAddr("192.0.2.2")}},
			Handler: func(e Event) {
				switch e := e.(type) {
				case State:
					got = append(got, string(e.Payload))
				case Message:
					got = append(got, string(e.Payload))
				}
			},
		})
		g.lives = nil
		g.begin(here)
		for _, e := range c.in {
			g.receive(e.appendTo(nil))
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		if dropped := g.Counters()[DropSender] > 0; dropped != strings.HasPrefix(name, "from ") {
			t.Errorf("%s: counters %v", name, g.Counters())
		}
	}
}

// The clock of a router without a battery goes back with each start.
func TestClockThatWentBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start(s.config(1, 2)), s.start(s.config(2, 2))
	a.Publish([]byte("a"))
	b.Publish([]byte("b1"))
	await(t, "told", a.hasState("r2", []byte("b1")))
	b.end()
	again := s.prepare(s.config(2, 2))
	again.lives = nil
	again.begin(12345)
	again.Publish([]byte("b2"))
	again.run()
	await(t, "told", a.hasState("r2", []byte("b2")))
	await(t, "told", again.hasState("r1", []byte("a")))
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{envelopeFormat, byte(typeState), 255})
	for _, e := range []envelope{
		{Type: typeState, From: "r1", Life: 1, Seq: 2, Heard: []heard{{"r2", 3}}, Payload: []byte("p")},
		{Type: typeMessage, From: "r1", Life: 1, Seq: 2, To: 3, Kind: "yield", Payload: []byte("p")},
		{Type: 9},
	} {
		f.Add(e.appendTo(nil))
	}
	f.Add([]byte{envelopeFormat, byte(typeState), 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEnvelope(b)
		if err != nil {
			return
		}
		again, err := decodeEnvelope(e.appendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, again); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzSeals(f *testing.F) {
	s, err := newSeals("home", [][]byte{keyA, keyB})
	if err != nil {
		f.Fatal(err)
	}
	label := append([]byte{labelByte, 4}, "home"...)
	f.Add([]byte{})
	f.Add(label)
	f.Add(append(label[:len(label):len(label)], encryptByte, 0, 0, 0, 100))
	f.Add(append(label[:len(label):len(label)], append([]byte{sealVersion}, make([]byte, 100)...)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s.packet(b) == "" {
			t.Fatal("a packet that nobody sealed was let in")
		}
		if read, drop := s.stream(bytes.NewReader(b)); read != nil || (drop == "") != (len(b) == 0) {
			t.Fatalf("a stream that nobody sealed was let in: %q", drop)
		}
	})
}
