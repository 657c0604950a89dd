package main

import (
	"errors"
	"fmt"
	"time"
)

// faultsAt is the bench of one advert interval.
func faultsAt(name string, advertise time.Duration) bench {
	return bench{
		name: name, title: fmt.Sprintf("the master fails, leaves or returns; advertise %v, priorities 200 and 150", advertise), peer: "keepalived+conntrackd",
		notes: []string{
			"traffic: pings of the gateway and packets of 4 UDP flows 2 ms apart each (a silence of that is none), 32 TCP flows at 50/s, a new connection each 20 ms.",
			"keepalived has no failover command: its SIGTERM stands beside both. Connections broken: TCP flows of the 32, and new ones that failed.",
			"crash: all ports and processes of the master at once. killed: SIGKILL to the daemon (ours: not to its guard; theirs: to all processes at once).",
		},
		run: func(l *lab) error { return compare(l, advertise) },
	}
}

// compare runs faults on a fresh pair of ours and on one of the peer, in turn.
func compare(l *lab, advertise time.Duration) error {
	var failed error
	for i := range l.runs {
		for side, build := range []func(time.Duration) (pair, error){newOurPair, newTheirPair} {
			name := [2]string{"harouter", "keepalived"}[side]
			l.tell("run %d of %d, %s", i+1, l.runs, name)
			if err := once(l, Side(side), advertise, build); err != nil {
				l.tell("%s: %v", name, err)
				failed = errors.Join(failed, fmt.Errorf("%s, run %d: %w", name, i+1, err))
			}
		}
	}
	return failed
}

func once(l *lab, side Side, advertise time.Duration, build func(time.Duration) (pair, error)) error {
	p, err := build(advertise)
	if err != nil {
		return err
	}
	err = errors.Join(p.start("r1", "r2"), p.settled())
	if err == nil {
		err = allFaults(l, side, p, advertise)
	}
	return errors.Join(err, p.lab().Close())
}

// allFaults goes through them with one pair, the crash last.
func allFaults(l *lab, side Side, p pair, advertise time.Duration) error {
	s := p.lab()
	skew := 106 * advertise / 256
	steps := []struct {
		what    string
		rest    time.Duration
		do      func() error
		aim     time.Duration // of the silence
		planned bool          // nothing may be lost
		double  bool          // two holders could be
		after   func() error
	}{
		{what: "SIGTERM", rest: 1500 * time.Millisecond, do: func() error { return p.leave("r1") }, aim: 10 * time.Millisecond, planned: true, double: true},
		{what: "return", do: func() error { return errors.Join(p.start("r1"), held(s, "r1")) }, aim: 10 * time.Millisecond, planned: true, double: true, after: p.settled},
		{what: "LAN port unplugged", rest: 4*advertise + 1200*time.Millisecond, do: s.Port("r1", "lan0").Unplug, aim: 50 * time.Millisecond,
			after: func() error { return errors.Join(s.Port("r1", "lan0").Plug(), p.settled()) }},
		{what: "daemon killed", rest: 4*advertise + 1200*time.Millisecond, do: func() error { return p.kill("r1") }, aim: 50*time.Millisecond + skew, double: true,
			after: func() error { return errors.Join(p.start("r1"), p.settled()) }},
		{what: "crash", rest: 4*advertise + 1500*time.Millisecond, do: func() error { return s.PowerOff("r1") },
			aim: min(3*advertise+skew+20*time.Millisecond, max(100*time.Millisecond, advertise/10+50*time.Millisecond))}, // by ARP, where that is faster
	}
	ours, is := p.(ourPair)
	if is {
		o, err := strike(s, advertise, time.Second, func() error { return ours.failover() })
		if err := errors.Join(err, ours.failover("--auto"), p.settled()); err != nil {
			return fmt.Errorf("failover: %w", err)
		}
		l.fault("failover", side, o, 10*time.Millisecond, true, true)
	}
	for _, step := range steps {
		o, err := strike(s, advertise, step.rest, step.do)
		if err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		if step.what == "SIGTERM" && !is {
			l.fault("failover", side, o, step.aim, step.planned, step.double)
		}
		l.fault(step.what, side, o, step.aim, step.planned, step.double)
		if step.what == "daemon killed" {
			l.row(step.what+": holders afterwards", "").Say(side, o.holders)
		}
		if step.after != nil {
			if err := step.after(); err != nil {
				return fmt.Errorf("after %s: %w", step.what, err)
			}
		}
	}
	return nil
}

// fault adds the rows of one.
func (l *lab) fault(what string, side Side, o outcome, aim time.Duration, planned, double bool) {
	l.row(what+": silence", "ms").Aim(ms(aim)).Add(side, ms(o.silence), o.noise)
	l.row(what+": UDP silence", "ms").Add(side, ms(o.udp), o.noise)
	lost := l.row(what+": packets lost", "")
	if planned {
		lost.Aim(0)
	}
	lost.Add(side, float64(o.lost), noise{})
	ends := l.row(what+": connections broken", "")
	ends.Add(side, float64(o.dead+o.refused), noise{})
	if double {
		l.row(what+": two holders at once", "ms").Aim(50).Add(side, ms(o.double), noise{})
	}
}
