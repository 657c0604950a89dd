package ha

import (
	"slices"
	"testing"
	"time"
)

// fenced is what the guard does when the process of a node is killed.
func (s *sim) fenced(name string) {
	s.power(name)
	s.nodes[name].word()
	s.nodes[name].send(0)
}

// TestWordOfTheGuard: the successor takes over on it at once, and only that one.
func TestWordOfTheGuard(t *testing.T) {
	for _, names := range [][]string{{"r1", "r2"}, {"r1", "r2", "r3"}} {
		s := booted(t, names...)
		at := s.now
		s.fenced("r1")
		s.run(2 * time.Second)
		s.master("r2")
		none, double := s.coverage(at)
		within(t, "nobody holds the addresses", none, simDelay+simWork+time.Millisecond) // Skew is 41 ms
		within(t, "two hold them", double, 0)
		if len(names) == 3 { // and the next
			at = s.now
			s.fenced("r2")
			s.run(2 * time.Second)
			s.master("r3")
			none, double = s.coverage(at)
			within(t, "nobody holds the addresses", none, simDelay+simWork+time.Millisecond)
			within(t, "two hold them", double, 0)
		}
	}
}

// TestWordsThatDoNotCount: what is not of the present mastership moves nothing.
func TestWordsThatDoNotCount(t *testing.T) {
	s := booted(t, "r1", "r2", "r3")
	first := s.nodes["r1"].guard.Will
	if len(first) != 32 || s.nodes["r1"].guard.Heir != "r2" {
		t.Fatalf("the guard of the master was told %+v", s.nodes["r1"].guard)
	}
	if g := s.nodes["r2"].guard; g.Will != nil || g.Heir != "" {
		t.Fatalf("the guard of a backup was told %+v", g)
	}
	if slices.Equal(proof(first), first) {
		t.Fatal("the proof shows the secret")
	}
	say := func(to, from string, will []byte) {
		at := s.now
		s.nodes[to].handle(Told{From: from, Message: Message{Kind: KindFenced, Will: will}})
		s.run(time.Second)
		s.master("r1")
		none, double := s.coverage(at)
		within(t, "nobody holds the addresses", none, 0)
		within(t, "two hold them", double, 0)
	}
	say("r2", "r1", nil)
	say("r2", "r1", make([]byte, 32))
	say("r2", "r1", proof(first)) // what everybody was told
	say("r2", "r3", first)        // a backup's
	say("r1", "r2", first)        // the master itself hears it

	s.fenced("r1")
	s.run(2 * time.Second)
	s.master("r2")
	s.boot("r1") // the next life
	s.run(10 * time.Second)
	s.master("r1")
	say("r2", "r1", first) // recorded and sent again

	s.nodes["r1"].stop() // it hangs
	s.nodes["r1"].word()
	hung := s.nodes["r1"].guard.Will
	s.run(time.Second)
	s.master("r1+r2") // r1 stands still
	s.nodes["r1"].resume()
	s.run(10 * time.Second)
	s.master("r1")
	say("r2", "r1", hung)
	say("r2", "r1", first)
}
