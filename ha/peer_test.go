package ha

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
)

func someState() PeerState {
	return PeerState{
		Node: "r1", Version: "1", Role: RoleMaster, Since: time.Unix(1000, 0).UTC(), Priority: 200, Effective: 149,
		Hash: "h", PlanHash: "p", Master: "r1", Held: true, Lans: 2, Addresses: []netip.Addr{addr("192.0.2.1")},
		Uplinks:  []UplinkView{{Name: "cable", Verdict: balancer.Up, Since: time.Unix(900, 0).UTC(), RTT: time.Millisecond, Loss: 0.5, Measured: true}},
		Pool:     []string{"cable"},
		Verdicts: map[string]balancer.Verdict{"cable": balancer.Up},
	}
}

func TestPeerStateTravels(t *testing.T) {
	want := someState()
	got, err := DecodePeerState(want.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestBigStateFitsIntoAPacket: sixteen uplinks on six lans.
func TestBigStateFitsIntoAPacket(t *testing.T) {
	want := someState()
	for i := range 16 {
		name := fmt.Sprintf("uplink%d", i)
		want.Uplinks = append(want.Uplinks, UplinkView{Name: name, Verdict: balancer.Up, Since: time.Unix(900+int64(i)*7919, 12345).UTC(), RTT: time.Duration(i) * 12345678, Measured: true})
		want.Pool = append(want.Pool, name)
		want.Verdicts[name] = balancer.Up
		want.Addresses = append(want.Addresses, netip.AddrFrom4([4]byte{203, byte(i * 7), byte(i * 13), 2}))
	}
	b := want.Encode()
	if len(b) > 1150 {
		t.Errorf("%d bytes", len(b))
	}
	got, err := DecodePeerState(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if _, err := DecodePeerState(b[:len(b)/2]); err == nil {
		t.Error("half of it was read without an error")
	}
}

func TestDecodePeerState(t *testing.T) {
	for name, c := range map[string]struct {
		in string
		ok bool
	}{
		"newer version's field": {`{"node":"r1","something_new":[1,2]}`, true},
		"newer version's role":  {`{"node":"r1","role":"observer"}`, true},
		"unknown verdict":       {`{"node":"r1","verdicts":{"a":"purple"}}`, false},
		"no node":               {`{}`, false},
		"no JSON":               {"\x00\x01", false},
		"too long":              {`{"node":"` + string(make([]byte, maxPeerState)) + `"}`, false},
	} {
		if _, err := DecodePeerState([]byte(c.in)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodePeerState(f *testing.F) {
	f.Add(someState().Encode())
	f.Add([]byte(`{"node":"r2","role":"fault","addresses":["::1",""],"uplinks":[{}],"pool":["x"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodePeerState(b)
		if err != nil {
			return
		}
		again, err := DecodePeerState(s.Encode())
		if err != nil || again.Node != s.Node || len(again.Uplinks) != len(s.Uplinks) {
			t.Errorf("round trip: %v\n%+v\n%+v", err, s, again)
		}
		// Whatever a node says, this one goes on.
		m := newSim(t, "r1", "r2")
		n := m.nodes["r1"]
		m.boot("r1")
		s.Node = "r2"
		n.handle(PeerTold{State: s})
		m.run(2 * time.Second)
	})
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add(Message{Kind: KindHandover, ID: 7, To: "r1", Hold: true, Reason: "x"}.Encode())
	f.Add([]byte(`{"kind":"failover","to":"nobody"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		msg, err := DecodeMessage(b)
		if err != nil {
			return
		}
		s := newSim(t, "r1", "r2")
		s.boot("r1")
		s.run(time.Second)
		s.nodes["r1"].handle(Told{From: "r2", Message: msg})
		s.run(2 * time.Second)
	})
}

// TestNodeThatLeavesIsNotLost: who reads of a node that is lost looks for a fault.
func TestNodeThatLeavesIsNotLost(t *testing.T) {
	for name, c := range map[string]struct {
		ends func(s *sim)
		want string
	}{
		"it leaves":                      {func(s *sim) { s.command("r2", VerbStop, "") }, "left"},
		"it leaves, and that is unheard": {func(s *sim) { s.command("r2", VerbStop, ""); s.nodes["r1"].lost["r2"] = true }, "left"},
		"it dies":                        {func(s *sim) { s.power("r2") }, "lost"},
	} {
		t.Run(name, func(t *testing.T) {
			s := booted(t, "r1", "r2")
			c.ends(s)
			s.run(5 * time.Second)
			var got []string
			for _, line := range s.log {
				if _, to, ok := strings.Cut(line, "r1 node r2 backup->"); ok {
					word, _, _ := strings.Cut(to, " ")
					got = append(got, word)
				}
			}
			if d := cmp.Diff([]string{c.want}, got); d != "" {
				t.Errorf("-want +got:\n%s\n%s", d, strings.Join(s.log, "\n"))
			}
		})
	}
}
