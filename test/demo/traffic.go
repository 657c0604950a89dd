package main

import (
	"fmt"
	"net/netip"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

var server = netip.AddrPortFrom(site.Server, netlab.EchoPort)

// drain is how long the end of a load waits for answers still under way.
const drain = 300 * time.Millisecond

// Bounds. What the machine itself stood still, as netlab saw it, is added.
const (
	silenceBound  = 2 * time.Second        // of the gateway, after a fault
	handOverBound = 250 * time.Millisecond // of the gateway, when the role is handed over
	healthyBound  = 250 * time.Millisecond // of flows that a fault does not concern
	overlapBound  = 100 * time.Millisecond // two holders at a hand-over: 50 ms, and the machine
)

// traffic starts what host h1 does during a chapter and lets it run a moment
// before the fault, for what it felt before is part of what is measured.
func (s *story) traffic() (*netlab.Client, error) {
	s.screen.Doing("starting traffic")
	client, err := s.Load("h1", netlab.Load{
		UDP:   []netlab.UDPFlows{{Server: server, Flows: 16, Interval: 25 * time.Millisecond}},
		TCP:   []netlab.TCPFlows{{Server: server, Flows: 8, Interval: 100 * time.Millisecond}},
		Fresh: []netlab.Fresh{{Server: server, Interval: 40 * time.Millisecond}},
		Ping:  []netlab.Ping{{Target: site.LANAddress, Interval: 5 * time.Millisecond}},
		Drain: drain,
	})
	if err == nil {
		time.Sleep(400 * time.Millisecond)
	}
	return client, err
}

// afterwards lets traffic run on after a fault, long enough to see that new
// connections work again (netlab wants a whole second of them), and ends it.
func (s *story) afterwards(client *netlab.Client) (*netlab.Report, error) {
	s.screen.Doing("watching the traffic")
	time.Sleep(1500 * time.Millisecond)
	return client.Stop()
}

// move is what the host felt of a change of roles.
type move struct {
	silence    time.Duration // of the gateway
	udp        time.Duration // longest gap of the UDP flows
	fresh      int           // connections begun
	failed     int           // of these
	tcp, alive int           // established before, answered afterwards
	noise      time.Duration // of the machine: not the site's fault
}

// felt reads a report; the new master had the addresses at held.
func (s *story) felt(r *netlab.Report, mark string, held netlab.Instant) move {
	m := move{silence: r.PingGapSince(mark), udp: r.GapSince(mark), failed: r.FreshFailedSince(mark), tcp: len(r.TCP),
		noise: r.Lag + r.StallSince(mark)}
	for _, a := range r.Fresh {
		if a.Start >= r.Mark(mark) {
			m.fresh++
		}
	}
	for _, t := range r.TCP {
		for _, at := range t.Echo {
			if at > held.Add(200*time.Millisecond) {
				m.alive++
				break
			}
		}
	}
	s.promise(m.alive == m.tcp, "%d of %d open TCP connections did not go on", m.tcp-m.alive, m.tcp)
	s.promise(len(r.Renatted(mark)) == 0, "%d UDP flows left by another line or port", len(r.Renatted(mark)))
	return m
}

// say is what the host noticed, for the timeline.
func (m move) say() []string {
	said := []string{"gateway silent for " + span(m.silence)}
	if m.stalled() {
		said = append(said, "(machine stalled for "+span(m.noise)+")")
	}
	return append(said,
		fmt.Sprintf("new: %d of %d failed", m.failed, m.fresh),
		"UDP: longest gap "+span(m.udp),
		fmt.Sprintf("open TCP: %d of %d went on", m.alive, m.tcp))
}

// tell is the same for the step, after what is said of the routers.
func (m move) tell(routers string) []string {
	said := []string{routers,
		fmt.Sprintf("the gateway was silent for %s; %d of %d new connections failed", span(m.silence), m.failed, m.fresh)}
	if m.stalled() {
		said = append(said, "(this machine itself stood still for up to "+span(m.noise)+")")
	}
	return said
}

// stalled tells whether the machine itself stood still for long enough to be
// seen in the figures.
func (m move) stalled() bool { return m.noise > 10*time.Millisecond }

// got is when, after since, the router got the gateway's address; lost, when
// it lost it. 0 is never.
func (s *story) got(router string, since netlab.Instant) netlab.Instant {
	return s.change(router, since, true)
}
func (s *story) lost(router string, since netlab.Instant) netlab.Instant {
	return s.change(router, since, false)
}

func (s *story) change(router string, since netlab.Instant, held bool) netlab.Instant {
	for _, c := range s.Watch().Changes(site.LANAddress) {
		if c.Router == router && c.Held == held && c.At >= since {
			return c.At
		}
	}
	return 0
}

// oneHolder checks that no address had two holders for longer than that.
func (s *story) oneHolder(since netlab.Instant, bound time.Duration) {
	for _, a := range []netip.Addr{site.LANAddress, site.WAN1, site.WAN2} {
		if o := s.Watch().Overlap(a, since); o > bound {
			s.promise(false, "%s had two holders for %s", a, span(o))
		}
	}
}
