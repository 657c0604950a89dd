package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

const hammerTime = time.Second

var rateBench = bench{
	name: "rate", title: "new TCP connections per second through one router, as fast as a client of 16 threads can", peer: "bare kernel",
	notes: []string{
		"bare kernel: one default route and masquerade, no policy. Client, router and server share the processors: the ratio counts, not the rate.",
	},
	run: rate,
}

func rate(l *lab) (err error) {
	ours, err := cluster(netlab.PairOptions{WANOwn: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.Close()) }()
	bare, err := bareRouter()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.Close()) }()
	sites := [2]*netlab.Site{Ours: ours.Site, Theirs: bare}
	if err := errors.Join(ours.Up("r1"), sinks(ours.Site), sinks(bare)); err != nil {
		return err
	}
	for i := range l.runs {
		for side, s := range sites {
			perSecond, failed, err := hammered(s, 0)
			if err != nil {
				return err
			}
			l.row("new connections", "per s").Add(Side(side), perSecond, noise{})
			l.row("failed, of all", "%").Add(Side(side), failed, noise{})
			l.tell("run %d of %d, %s: %.0f/s", i+1, l.runs, [2]string{"harouter", "bare kernel"}[side], perSecond)
			if err := s.Router("r1").FlushConnections(); err != nil {
				return err
			}
		}
	}
	return nil
}

// sinks starts what takes connections, and gives the client all ports.
func sinks(s *netlab.Site) error {
	if _, err := s.Node("net").StartRole("sink", "sink", site.Server.String(), site.Server2.String()); err != nil {
		return err
	}
	for _, h := range []string{"h1", "net"} {
		if err := s.Node(h).Sysctl("net.ipv4.ip_local_port_range", "1024 65535"); err != nil {
			return err
		}
	}
	return nil
}

// hammered runs the client once, which keeps each connection for a while, and
// returns the rate, and the percentage that did not work.
func hammered(s *netlab.Site, keep time.Duration) (perSecond, failed float64, err error) {
	h := s.Host("h1")
	out := filepath.Join(h.Dir(), "hammered")
	p, err := h.StartRole("hammer", "hammer", out, hammerTime.String(), keep.String(), site.Server.String(), site.Server2.String())
	if err != nil {
		return 0, 0, err
	}
	code, err := p.Wait(30 * time.Second)
	if err != nil || code != 0 {
		log, _ := os.ReadFile(p.Log)
		return 0, 0, fmt.Errorf("the client ended with %d: %w: %.200s", code, err, log)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return 0, 0, err
	}
	var made, missed float64
	_, err = fmt.Sscan(string(text), &perSecond, &made, &missed)
	return perSecond, 100 * missed / max(made+missed, 1), err
}
