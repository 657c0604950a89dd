package vrrp

import (
	"net/netip"
	"time"
)

// plainRouter is a speaker that is none of ours, written from RFC 9568 §6.4 and
// RFC 3768 §6.4 alone, without a look at Machine: what ours has to live with.
type plainRouter struct {
	version  Version
	priority uint8
	interval time.Duration
	address  netip.Addr
	preempt  bool
	state    State
	learned  time.Duration
	down     time.Time
}

func (r *plainRouter) State() State { return r.state }

func (r *plainRouter) Deadline() time.Time {
	if r.state == Backup {
		return r.down
	}
	return time.Time{}
}

func (r *plainRouter) wait(now time.Time) {
	r.down = now.Add(3*r.learned + Skew(r.version, r.priority, r.learned))
}

func (r *plainRouter) backup(now time.Time) []Action {
	r.state = Backup
	r.wait(now)
	return []Action{Become{State: Backup}}
}

func (r *plainRouter) Handle(ev Event, now time.Time) []Action {
	advertise := Advertise{Priority: r.priority, Interval: r.interval}
	switch ev := ev.(type) {
	case Start:
		r.learned = r.interval
		return r.backup(now)
	case Stop:
		was := r.state
		r.state = Initialize
		if was == Master {
			return []Action{Silence{}, Farewell{}}
		}
	case Tick:
		if r.state == Backup && !now.Before(r.down) {
			r.state = Master
			return []Action{advertise, Become{State: Master}}
		}
	case Heard:
		switch {
		case r.state == Backup && ev.Priority == 0:
			r.down = now.Add(Skew(r.version, r.priority, r.learned))
		case r.state == Backup && (!r.preempt || ev.Priority >= r.priority):
			r.learned = ev.Interval
			r.wait(now)
		case r.state == Master && ev.Priority == 0:
			return []Action{advertise}
		case r.state == Master && (ev.Priority > r.priority || ev.Priority == r.priority && ev.Rank.Compare(r.address) > 0):
			r.learned = ev.Interval
			return append([]Action{Silence{}}, r.backup(now)...)
		case r.state == Master:
			return []Action{advertise}
		}
	}
	return nil
}
