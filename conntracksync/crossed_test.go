package conntracksync

import (
	"strings"
	"testing"
	"time"
)

// late holds back what the nodes of a site send each other.
type late struct {
	*site
	frames map[string][][]byte // by receiver
}

func (s *site) late() *late {
	l := &late{s, map[string][][]byte{}}
	s.lost = func(_, to string, frame []byte) bool {
		l.frames[to] = append(l.frames[to], frame)
		return true
	}
	return l
}

// bring brings so many of the frames to a node that were sent by now, -1 for all.
func (l *late) bring(to string, n int) {
	l.t.Helper()
	from := map[string]string{"r1": "r2", "r2": "r1"}[to]
	if n < 0 {
		n = len(l.frames[to])
	}
	for range n {
		f := l.frames[to][0]
		l.frames[to] = l.frames[to][1:]
		if err := l.node(to).table.Received(l.now, from, f); err != nil {
			l.t.Errorf("%s: %v", to, err)
		}
		l.work()
	}
}

// inTime ends that.
func (l *late) inTime() {
	l.t.Helper()
	for len(l.frames["r1"])+len(l.frames["r2"]) > 0 {
		l.bring("r1", -1)
		l.bring("r2", -1)
	}
	l.lost = nil
}

// TestCrossedRoles: the role goes to and fro while what the nodes tell each other
// is on its way. What one told in a former role must not make the other give
// connections to it that it has given away meanwhile.
func TestCrossedRoles(t *testing.T) {
	s := pair(t)
	s.fill("r1", 2000, 100)
	s.pass(time.Second)
	s.disconnect("r1", "r2")
	l := s.late()
	s.connect("r1", "r2")
	l.bring("r1", 1)
	l.bring("r2", 1) // they have met, and what r1 has is on its way
	role := func(name string, r Role) {
		s.node(name).table.SetRole(s.now, r)
		s.work()
	}
	role("r2", Role{true, 2})
	l.bring("r1", -1)
	role("r1", Role{false, 2})
	role("r1", Role{true, 3})
	role("r2", Role{false, 3})
	l.inTime()
	s.pass(20 * time.Second)
	for _, n := range s.nodes {
		for _, did := range n.did {
			if strings.HasPrefix(did, "remove") {
				t.Errorf("%s: %s", n.name, did)
			}
		}
		s.holds(n.name, 100)
	}
	s.same("r1", "r2")
	if own, _ := s.node("r1").table.Len(); own != 100 {
		t.Errorf("r1 owns %d", own)
	}
}

// TestGivenAway: a third node hears that a flow is another's before that one says so.
func TestGivenAway(t *testing.T) {
	s := newSite(t, "r1", "r2", "r3")
	for _, c := range [][2]string{{"r1", "r2"}, {"r2", "r3"}, {"r1", "r3"}} {
		s.connect(c[0], c[1])
	}
	s.master("r1", 1)
	s.fill("r1", 2000, 100)
	s.pass(time.Second)
	var late [][]byte
	s.lost = func(from, to string, frame []byte) bool {
		if from != "r2" || to != "r3" {
			return false
		}
		late = append(late, frame)
		return true
	}
	s.node("r2").table.SetRole(s.now, Role{true, 2})
	s.work()
	s.node("r1").table.SetRole(s.now, Role{false, 2})
	s.work()
	s.holds("r3", 100)
	s.lost = nil
	for _, f := range late {
		if err := s.node("r3").table.Received(s.now, "r2", f); err != nil {
			t.Error(err)
		}
	}
	s.pass(10 * time.Second)
	for _, did := range s.node("r3").did {
		if strings.HasPrefix(did, "remove") {
			t.Errorf("r3: %s", did)
		}
	}
	s.same("r2", "r3")
	s.packet("r2", Ended, natted(2000))
	s.pass(time.Second)
	s.holds("r3", 99)
}

// TestQuickRestart: a master's daemon is back before another node has taken over.
// It finds the flows in its kernel and says nothing of them, since it is a backup
// now; who becomes master has them all the same.
func TestQuickRestart(t *testing.T) {
	s := pair(t)
	s.fill("r1", 2000, 100)
	s.pass(time.Second)
	kernel := s.node("r1").kernel
	s.disconnect("r1", "r2")
	s.boot("r1").kernel = kernel
	s.dump("r1", true)
	s.connect("r1", "r2")
	s.pass(time.Second)
	s.fill("r1", 2500, 1) // by the number of another one before
	s.pass(time.Second)
	s.holds("r2", 101)
	s.master("r2", 2)
	s.pass(time.Second)
	s.holds("r2", 101)
	if own, _ := s.node("r2").table.Len(); own != 101 {
		t.Errorf("r2 owns %d", own)
	}
}
