package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

const connections = 2000

var sharesBench = bench{
	name: "shares", title: fmt.Sprintf("share of the first ISP among %d new connections", connections), peer: "-",
	notes: []string{
		"the sampling error alone is 1.1 points (one standard deviation, at 1:1).",
		"reference, NOT measured here (research/baseline-netispbalance.md, Net-ISP-Balance 1.33, another day, min / median / max):",
		"  1:1 48.7 / 49.5 / 51.0, 2:1 64.9 / 67.1 / 67.7, 3:1 73.8 / 74.9 / 75.6 %",
	},
	run: shares,
}

func shares(l *lab) error {
	var failed error
	for _, w := range []int{1, 2, 3} {
		l.tell("weights %d:1", w)
		if err := sharesAt(l, w); err != nil {
			failed = errors.Join(failed, fmt.Errorf("weights %d:1: %w", w, err))
		}
	}
	return failed
}

func sharesAt(l *lab, weight int) (err error) {
	c, err := cluster(netlab.PairOptions{WANOwn: true}, "weight: 2", fmt.Sprintf("weight: %d", weight))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Up("r1"); err != nil {
		return err
	}
	for range l.runs {
		client, err := c.Load("h1", netlab.Load{
			Fresh: []netlab.Fresh{{Server: netip.AddrPortFrom(site.Server, netlab.EchoPort), Interval: time.Millisecond, Count: connections}},
			Drain: 100 * time.Millisecond,
		})
		if err != nil {
			return err
		}
		done := netlab.WaitFor("all connections", time.Minute, func() bool {
			time.Sleep(50 * time.Millisecond)
			s, err := client.Snapshot()
			return err != nil || s.FreshOK+s.FreshFailed >= connections
		})
		r, err := client.Stop()
		if err := errors.Join(done, err); err != nil {
			return err
		}
		took := r.FreshByISP(0, 0)
		all := took["isp1"] + took["isp2"]
		if all == 0 {
			return errors.New("no connection worked")
		}
		share, ideal := 100*float64(took["isp1"])/float64(all), 100*float64(weight)/float64(weight+1)
		name := fmt.Sprintf("weights %d:1: ", weight)
		l.row(name+fmt.Sprintf("share (wanted %.1f)", ideal), "%").Add(Ours, share, noise{})
		l.row(name+"off by", "points").Aim(4).Add(Ours, math.Abs(share-ideal), noise{})
		l.row(name+"connections failed", "").Aim(0).Add(Ours, float64(connections-all), noise{})
	}
	return nil
}
