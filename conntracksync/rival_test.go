package conntracksync

import (
	"testing"
	"time"
)

// TestEndsOfARival: two masters whose session lives: what one ends, since it
// thinks that an uplink is dead, is not ended at the other, through which the
// packets may go. The one that stays tells the other that they live.
func TestEndsOfARival(t *testing.T) {
	s := pair(t)
	s.fill("r1", 1, 10)
	s.node("r2").table.SetRole(s.now, Role{true, 2})
	s.work()
	s.pass(300 * time.Millisecond)
	for i := range 3 {
		s.packet("r2", Ended, natted(1+i))
	}
	s.work()
	s.pass(300 * time.Millisecond)
	s.holds("r1", 10)
	s.master("r1", 3)
	s.pass(3 * time.Second)
	s.holds("r1", 10)
	s.holds("r2", 10)
	s.same("r1", "r2")
}

// TestNextOfTheSameName: in the moment of a hand-over a host begins a connection
// from the port of one that is over, through the node that hands over, on another
// uplink. The successor knows of the former alone, and claims all that it knows;
// what lives is not replaced by it.
func TestNextOfTheSameName(t *testing.T) {
	for _, which := range []struct {
		name  string
		state TCPState
	}{{"closed", Closed}, {"waiting", TimeWait}} {
		t.Run(which.name, func(t *testing.T) {
			s := pair(t)
			s.fill("r1", 1, 3)
			s.pass(300 * time.Millisecond)
			former := natted(2)
			former.TCP.State = which.state
			s.packet("r1", Changed, former)
			s.work()
			s.pass(300 * time.Millisecond)

			next := natted(2)
			next.Mark, next.Reply.Destination = 0x300, next.Reply.Destination.Next()
			s.packet("r1", Ended, former)
			s.packet("r1", Began, next)
			s.node("r2").table.SetRole(s.now, Role{true, 7}) // before it hears of that
			s.work()
			s.node("r1").table.SetRole(s.now, Role{false, 7})
			s.pass(3 * time.Second)
			for _, name := range []string{"r1", "r2"} {
				got := s.node(name).kernel[next.Original]
				if got.Reply != next.Reply || got.Mark != next.Mark || got.TCP.State != Established {
					t.Errorf("%s holds %+v", name, got)
				}
				s.holds(name, 3)
			}
			s.same("r1", "r2")
		})
	}
}
