package main

import (
	"errors"
	"fmt"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// idleWindow is how long an idle router is watched at a time, three times.
const idleWindow = 10 * time.Second

var idleBench = bench{
	name: "idle", title: "an idle pair: three windows of 10 s; advertise 100 ms, ours with two uplinks probed at the default 1 s", peer: "keepalived",
	notes: []string{
		"all processes of a router together: ours daemon and guard, keepalived parent and VRRP child (it probes no ISP). Memory is resident and counts shared pages twice.",
		"processor time is that of the processes' own clocks, in nanoseconds.",
	},
	run: idle,
}

func idle(l *lab) (err error) {
	timers := ", interval: 200ms, timeout: 200ms, fall: 3, rise: 5}"
	c, err := cluster(netlab.PairOptions{WANOwn: true}, timers, "}")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	peer, peerErr := newTheirPair(100 * time.Millisecond)
	if peerErr == nil {
		defer func() { err = errors.Join(err, peer.lab().Close()) }()
		peerErr = errors.Join(peer.start("r1", "r2"), peer.settled())
	}
	// At 1 s a round, a few rounds make an uplink up.
	if err := errors.Join(c.Run("r1", "r2"), c.Settled("r1", "r1", 30*time.Second), c.Settled("r2", "r1", 30*time.Second), c.WaitHolder(site.LANAddress, "r1", 5*time.Second)); err != nil {
		return errors.Join(err, peerErr)
	}
	time.Sleep(2 * time.Second) // what a start costs is over
	type watched struct {
		side   Side
		node   *netlab.Node
		role   string
		before map[int]time.Duration
	}
	all := []*watched{{Ours, c.Router("r1"), "master", nil}, {Ours, c.Router("r2"), "backup", nil}}
	if peerErr == nil {
		all = append(all, &watched{Theirs, peer.lab().Router("r1"), "master", nil}, &watched{Theirs, peer.lab().Router("r2"), "backup", nil})
	}
	for i := range 3 {
		l.tell("window %d of 3", i+1)
		begin := make([]netlab.Instant, len(all))
		for n, w := range all {
			if w.before, _, err = usage(w.node); err != nil {
				return err
			}
			begin[n] = netlab.Now()
		}
		time.Sleep(idleWindow)
		for n, w := range all {
			after, memory, err := usage(w.node)
			if err != nil {
				return err
			}
			var used time.Duration
			for pid, cpu := range after {
				used += cpu - w.before[pid]
			}
			share := 100 * used.Seconds() / netlab.Now().Sub(begin[n]).Seconds()
			l.row(w.role+": processor", "% of one core").Aim(1.5).Add(w.side, share, noise{})
			l.row(w.role+": memory", "MB").Aim(40).Add(w.side, float64(memory)/1e6, noise{})
			if i == 0 {
				l.row(w.role+": processes", "").Say(w.side, fmt.Sprint(len(after)))
			}
		}
	}
	return peerErr
}

// usage is the processor time of each process of a router, and the memory of
// all together.
func usage(n *netlab.Node) (map[int]time.Duration, int64, error) {
	ps, err := n.Processes()
	if err != nil {
		return nil, 0, err
	}
	cpu, memory := map[int]time.Duration{}, int64(0)
	for _, p := range ps {
		c, m, err := netlab.Usage(p.PID)
		if err != nil {
			return nil, 0, err
		}
		cpu[p.PID], memory = c, memory+m
	}
	return cpu, memory, nil
}
