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

const (
	pingEvery = 2 * time.Millisecond
	udpEvery  = 2 * time.Millisecond
	tcpFlows  = 32
)

// outcome is what one fault did.
type outcome struct {
	silence time.Duration // without an answer to a ping of the LAN's gateway
	udp     time.Duration // longest gap of a UDP flow through the site
	lost    int           // packets of the UDP flows without an answer
	dead    int           // TCP flows that did not live on
	refused int           // new connections that failed
	double  time.Duration // longest time in which two routers held the same address
	holders string        // after all
	noise   noise
}

// strike runs traffic, does the fault at a random phase of the adverts and
// watches for as long as rest, and half a second after it is done at least. The
// traffic through the site is that of research/baseline-keepalived.md.
func strike(s *netlab.Site, advertise, rest time.Duration, do func() error) (outcome, error) {
	server := netip.AddrPortFrom(site.Server, netlab.EchoPort)
	client, err := s.Load("h1", netlab.Load{
		Ping:  []netlab.Ping{{Target: site.LANAddress, Interval: pingEvery}},
		UDP:   []netlab.UDPFlows{{Server: server, Flows: 4, Interval: udpEvery}},
		TCP:   []netlab.TCPFlows{{Server: server, Flows: tcpFlows, Interval: 20 * time.Millisecond}},
		Fresh: []netlab.Fresh{{Server: server, Interval: 20 * time.Millisecond}},
		Drain: time.Second,
	})
	if err != nil {
		return outcome{}, err
	}
	time.Sleep(500*time.Millisecond + rand.N(advertise)) // an ordinary life before
	at := s.Mark("fault")
	done := do()
	time.Sleep(max(rest-netlab.Now().Sub(at), 500*time.Millisecond))
	end := netlab.Now()
	o := outcome{holders: holders(s)}
	for _, a := range virtual {
		o.double = max(o.double, s.Watch().Overlap(a, at))
	}
	r, err := client.Stop()
	if err := errors.Join(done, err); err != nil {
		return o, err
	}
	o.silence = r.Ping[0].Gap(at, end)
	for _, f := range r.UDP {
		o.udp = max(o.udp, f.Gap(at, end))
		o.lost += f.Lost(at, end)
	}
	o.dead, o.refused = tcpFlows-r.Survivors(), r.FreshFailedSince("fault")
	o.noise = noise{r.Lag, r.StallSince("fault")}
	if o.silence >= end.Sub(at) {
		return o, fmt.Errorf("no answer to a ping for %v; the addresses are with %s", o.silence.Round(time.Millisecond), o.holders)
	}
	return o, nil
}
