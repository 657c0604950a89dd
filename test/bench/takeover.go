package main

import (
	"errors"
	"fmt"
	"time"
)

var crashBench = bench{
	name: "takeover", title: "the master fails or leaves; advertise 100 ms, priorities 200 and 150", peer: "keepalived",
	notes: []string{
		"pings are 2 ms apart, UDP packets 10 ms: a silence of that is none. keepalived has no failover command: its SIGTERM stands beside both.",
		"crash: all ports and processes of the master at once. killed: SIGKILL to the daemon (ours: not to its guard; keepalived: to both its processes at once).",
	},
	run: func(l *lab) error { return compare(l, 100*time.Millisecond, allFaults) },
}

var slowBench = bench{
	name: "slow", title: "the master crashes; advertise 1 s", peer: "keepalived",
	run: func(l *lab) error { return compare(l, time.Second, crash) },
}

// compare runs faults on a fresh pair of ours and on one of the peer, in turn.
func compare(l *lab, advertise time.Duration, faults func(*lab, Side, pair, time.Duration) error) error {
	var failed error
	for i := range l.runs {
		for side, build := range []func(time.Duration) (pair, error){newOurPair, newTheirPair} {
			name := [2]string{"harouter", "keepalived"}[side]
			l.tell("run %d of %d, %s", i+1, l.runs, name)
			if err := once(l, Side(side), advertise, build, faults); err != nil {
				l.tell("%s: %v", name, err)
				failed = errors.Join(failed, fmt.Errorf("%s, run %d: %w", name, i+1, err))
			}
		}
	}
	return failed
}

func once(l *lab, side Side, advertise time.Duration, build func(time.Duration) (pair, error), faults func(*lab, Side, pair, time.Duration) error) error {
	p, err := build(advertise)
	if err != nil {
		return err
	}
	err = errors.Join(p.start("r1", "r2"), p.settled())
	if err == nil {
		err = faults(l, side, p, advertise)
	}
	return errors.Join(err, p.lab().Close())
}

// allFaults goes through them with one pair, the crash last.
func allFaults(l *lab, side Side, p pair, advertise time.Duration) error {
	s := p.lab()
	skew := ms(106 * advertise / 256)
	planned := func(what string, s Side, o outcome) {
		l.row(what+": silence", "ms").Add(s, ms(o.silence), o.noise)
		l.row(what+": UDP silence", "ms").Add(s, ms(o.udp), o.noise)
		l.row(what+": pings lost", "").Aim(0).Add(s, float64(o.lost), noise{})
		l.row(what+": two holders at once", "ms").Aim(50).Add(s, ms(o.double), noise{})
	}
	// The rows in the order of the table.
	l.row("crash: silence", "ms")
	l.row("crash: UDP silence", "ms")

	ours, is := p.(ourPair)
	if is {
		o, err := strike(s, advertise, time.Second, func() error { return ours.failover() })
		if err != nil {
			return fmt.Errorf("failover: %w", err)
		}
		planned("failover", side, o)
		if err := errors.Join(ours.failover("--auto"), p.settled()); err != nil {
			return fmt.Errorf("failover --auto: %w", err)
		}
	}

	o, err := strike(s, advertise, 1500*time.Millisecond, func() error { return p.leave("r1") })
	if err != nil {
		return fmt.Errorf("SIGTERM: %w", err)
	}
	planned("SIGTERM", side, o)
	if !is {
		planned("failover", side, o)
	}
	if err := errors.Join(p.start("r1"), p.settled()); err != nil {
		return fmt.Errorf("after SIGTERM: %w", err)
	}

	port := s.Port("r1", "lan0")
	if o, err = strike(s, advertise, 1200*time.Millisecond, port.Unplug); err != nil {
		return fmt.Errorf("LAN port: %w", err)
	}
	l.row("LAN port unplugged: silence", "ms").Aim(50).Add(side, ms(o.silence), o.noise)
	l.row("LAN port unplugged: UDP silence", "ms").Add(side, ms(o.udp), o.noise)
	if err := errors.Join(port.Plug(), p.settled()); err != nil {
		return fmt.Errorf("after the LAN port: %w", err)
	}

	if o, err = strike(s, advertise, 1200*time.Millisecond, func() error { return p.kill("r1") }); err != nil {
		return fmt.Errorf("SIGKILL: %w", err)
	}
	l.row("daemon killed: silence", "ms").Aim(50+skew).Add(side, ms(o.silence), o.noise)
	l.row("daemon killed: UDP silence", "ms").Add(side, ms(o.udp), o.noise)
	l.row("daemon killed: two holders at once", "ms").Aim(50).Add(side, ms(o.double), noise{})
	l.row("daemon killed: holders after 1.2 s", "").Say(side, o.holders)
	if err := errors.Join(p.start("r1"), p.settled()); err != nil {
		return fmt.Errorf("after SIGKILL: %w", err)
	}
	return crash(l, side, p, advertise)
}

// crash takes the master's power.
func crash(l *lab, side Side, p pair, advertise time.Duration) error {
	skew := 106 * advertise / 256
	s := p.lab()
	o, err := strike(s, advertise, 4*advertise+1500*time.Millisecond, func() error { return s.PowerOff("r1") })
	if err != nil {
		return fmt.Errorf("crash: %w", err)
	}
	l.row("crash: silence", "ms").Aim(ms(3*advertise+skew)+20).Add(side, ms(o.silence), o.noise)
	l.row("crash: UDP silence", "ms").Add(side, ms(o.udp), o.noise)
	return nil
}
