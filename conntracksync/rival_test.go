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
