package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

var weightsBench = bench{
	name: "weights", title: "one change of weights: balancer/dataplane's Apply, with so many flows in the router's table", peer: "-",
	notes: []string{
		"meanwhile: 12 UDP flows and fresh connections, each every 4 ms. Building the plan is not in it, reading the kernel to compare is.",
		"'first Apply' makes the whole table, rules and routes from nothing.",
	},
	run: weights,
}

// applied is what the role in the router found out.
type applied struct {
	First   time.Duration
	Entries int // in its connection table when it began to change weights
	Begin   []netlab.Instant
	Took    []time.Duration
}

func weights(l *lab) error {
	var failed error
	for _, entries := range []int{0, 20_000, 100_000} {
		l.tell("%d flows", entries)
		if err := weightsWith(l, entries); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%d flows: %w", entries, err))
		}
	}
	return failed
}

func weightsWith(l *lab, entries int) (err error) {
	s, err := newSite(netlab.PairOptions{Routers: 1, WANOwn: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r := s.Router("r1")
	if err := r.IP("addr add 192.168.77.1/24 dev lan0", "addr add 203.0.113.10/25 dev wan1", "addr add 203.0.113.140/25 dev wan2"); err != nil {
		return err
	}
	changes := 4 * l.runs
	p, err := r.StartRole("apply", "apply", r.Dir(), fmt.Sprint(entries), fmt.Sprint(changes))
	if err != nil {
		return err
	}
	ready := filepath.Join(r.Dir(), "ready")
	if err := netlab.WaitFor("the table is full", time.Minute, func() bool { return exists(ready) || p.Ended() != 0 }); err != nil {
		return err
	}
	if !exists(ready) {
		log, _ := os.ReadFile(p.Log)
		return fmt.Errorf("the role ended: %.300s", log)
	}
	const every = 4 * time.Millisecond
	client, err := s.Load("h1", netlab.Load{
		UDP:   []netlab.UDPFlows{{Server: netip.AddrPortFrom(site.Server, netlab.EchoPort), Flows: 12, Interval: every}},
		Fresh: []netlab.Fresh{{Server: netip.AddrPortFrom(site.Server2, netlab.EchoPort), Interval: every}},
		Drain: 200 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	at := s.Mark("changes")
	if err := os.WriteFile(filepath.Join(r.Dir(), "go"), nil, 0o644); err != nil {
		return err
	}
	code, err := p.Wait(time.Minute)
	end := netlab.Now()
	report, stopped := client.Stop()
	if err := errors.Join(err, stopped); err != nil {
		return err
	}
	var a applied
	text, err := os.ReadFile(filepath.Join(r.Dir(), "applied"))
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil || code != 0 {
		log, _ := os.ReadFile(p.Log)
		return fmt.Errorf("the role ended with %d: %w: %.300s", code, err, log)
	}
	if a.Entries < entries {
		return fmt.Errorf("only %d entries were in the table", a.Entries)
	}
	name := fmt.Sprintf("%d flows: ", entries)
	if entries == 0 {
		l.row("first Apply", "ms").Add(Ours, ms(a.First), noise{})
	}
	late := noise{report.Lag, report.StallSince("changes")}
	for _, took := range a.Took {
		l.row(name+"Apply", "ms").Aim(10).Add(Ours, ms(took), late)
	}
	lost, gap := 0, time.Duration(0)
	for _, f := range report.UDP {
		lost += f.Lost(at, end)
		gap = max(gap, f.Gap(at, end))
	}
	l.row(name+fmt.Sprintf("fresh failed in %d changes", changes), "").Aim(0).Add(Ours, float64(report.FreshFailedSince("changes")), late)
	l.row(name+fmt.Sprintf("UDP packets lost in %d changes", changes), "").Aim(0).Add(Ours, float64(lost), late)
	l.row(name+"longest UDP gap", "ms").Add(Ours, ms(gap), late)
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
