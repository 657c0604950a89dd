package vip

import "time"

// series says when held addresses are announced next.
type series struct {
	timing Timing
	begin  time.Time
	done   int // of timing.Bursts
	last   time.Time
}

func (s *series) start(now time.Time) { s.begin, s.done, s.last = now, 0, now }

func (s *series) next() time.Time {
	if s.done < len(s.timing.Bursts) {
		return s.begin.Add(s.timing.Bursts[s.done])
	}
	return s.last.Add(s.timing.Refresh)
}

func (s *series) step(now time.Time) {
	s.last = now
	if s.done < len(s.timing.Bursts) {
		s.done++
	}
}
