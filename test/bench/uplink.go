package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

var uplinkBench = bench{
	name: "uplink", title: "an ISP dies; weights 1:1, probes: interval 200ms, timeout 200ms, fall 3", peer: "-",
	notes: []string{
		"a fresh connection each 20 ms; 'work again': the first of a whole second without a failure. 12 UDP flows at 20 ms: a gap of that is none.",
		"reference, NOT measured here (research/baseline-netispbalance.md, Net-ISP-Balance 1.33, another day, min / median / max):",
		"  silent death, fresh connections work again: 7.54 / 7.94 / 9.30 s by default, 1.92 / 2.20 / 2.25 s at its fastest",
		"  carrier loss, fresh connections work again: 7.71 / 8.05 / 8.51 s by default, 1.33 / 1.97 / 2.22 s at its fastest",
		"  longest gap of UDP flows on the healthy ISP: 0.32 / 0.34 / 0.36 s (silent), 0.34 / 0.36 / 0.38 s (carrier)",
		"  UDP flows of the dead ISP that moved: 0 of 32 (silent), 0 of 26 (carrier)",
	},
	run: uplinks,
}

func uplinks(l *lab) error {
	var failed error
	for i := range l.runs {
		l.tell("run %d of %d", i+1, l.runs)
		if err := uplinkRun(l); err != nil {
			l.tell("%v", err)
			failed = errors.Join(failed, fmt.Errorf("run %d: %w", i+1, err))
		}
	}
	return failed
}

// uplinkRun kills one ISP in silence, mends it, and then cuts the other's
// cables at the routers.
func uplinkRun(l *lab) (err error) {
	c, err := cluster(netlab.PairOptions{WANOwn: true}, "weight: 2", "weight: 1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Up("r1", "r2"); err != nil {
		return err
	}
	if err := death(l, c, "silent death", "isp1", "isp2", 1000, func() error { return c.BlackholeBeyond("isp1") }); err != nil {
		return fmt.Errorf("silent death: %w", err)
	}
	if err := errors.Join(c.Restore("isp1"), c.Settled("r1", "r1", 20*time.Second), c.Settled("r2", "r1", 20*time.Second)); err != nil {
		return err
	}
	err = death(l, c, "carrier loss", "isp2", "isp1", 100, func() error {
		return errors.Join(c.Port("r1", "wan2").Unplug(), c.Port("r2", "wan2").Unplug())
	})
	if err != nil {
		return fmt.Errorf("carrier loss: %w", err)
	}
	return nil
}

// death has an ISP die under traffic, at a random phase of the probes.
func death(l *lab, c *site.Cluster, what, dead, healthy string, aim float64, kill func() error) error {
	const every = 20 * time.Millisecond
	client, err := c.Load("h1", netlab.Load{
		UDP:   []netlab.UDPFlows{{Server: netip.AddrPortFrom(site.Server, netlab.EchoPort), Flows: 12, Interval: every}},
		Fresh: []netlab.Fresh{{Server: netip.AddrPortFrom(site.Server, netlab.EchoPort), Interval: every}},
		Drain: 200 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	time.Sleep(500*time.Millisecond + rand.N(200*time.Millisecond))
	at := c.Mark(what)
	done := kill()
	time.Sleep(2500 * time.Millisecond)
	end := netlab.Now()
	r, err := client.Stop()
	if err := errors.Join(done, err); err != nil {
		return err
	}
	again, ok := r.FreshAgain(what)
	if !ok {
		return fmt.Errorf("fresh connections did not work again: %d failed", r.FreshFailedSince(what))
	}
	late := noise{r.Lag, r.StallSince(what)}
	l.row(what+": fresh connections work again", "ms").Aim(aim).Add(Ours, ms(again), late)
	l.row(what+": fresh connections failed", "").Add(Ours, float64(r.FreshFailedSince(what)), noise{})
	gap, lost := time.Duration(0), 0
	for _, f := range r.On(healthy, what) {
		gap = max(gap, f.Gap(at, end))
		lost += f.Lost(at, end)
	}
	if len(r.On(healthy, what)) > 0 {
		l.row(what+": longest UDP gap, healthy ISP", "ms").Aim(2*ms(every)).Add(Ours, ms(gap), late)
		l.row(what+": UDP packets lost, healthy ISP", "").Aim(0).Add(Ours, float64(lost), noise{})
	}
	flows := r.On(dead, what)
	moved, silent := 0, time.Duration(0)
	for _, f := range flows {
		if c.ISPOf(f.Source().Addr()) == healthy {
			moved++
		}
		silent = max(silent, f.Gap(at, end))
	}
	if len(flows) > 0 {
		l.row(what+": UDP flows of the dead ISP moved", "%").Add(Ours, 100*float64(moved)/float64(len(flows)), noise{})
		l.row(what+": their longest gap", "ms").Add(Ours, ms(silent), late)
	}
	return nil
}
