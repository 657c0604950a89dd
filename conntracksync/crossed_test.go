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
