package hello

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"harouter/ha"
)

const (
	askEvery   = 300 * time.Millisecond
	hostsEvery = 2 * time.Second
	// greetAgain is the shortest time between greetings that another node's first
	// word calls for.
	greetAgain = 20 * time.Millisecond
	// perSecond is how many frames a second are opened: plenty for 20 nodes that
	// ask each other, little for a processor.
	perSecond = 2000
	// dropsPerSecond are reported.
	dropsPerSecond = 20
)

// budget bounds what others can make this node do within one second.
type budget struct {
	begin         time.Time
	opened, drops int
}

func (b *budget) renew(now time.Time) {
	if now.Sub(b.begin) >= time.Second {
		*b = budget{begin: now}
	}
}

func random() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return max(binary.BigEndian.Uint64(b[:]), 1)
}

// Run greets and listens until ctx ends. The error says that no packet socket
// can be had.
func (g *Greeter) Run(ctx context.Context) error {
	defer g.close()
	hosts := time.NewTimer(ha.Together(time.Now(), hostsEvery))
	defer hosts.Stop()
	g.again, g.asks = time.NewTimer(0), time.NewTimer(0)
	g.asks.Stop() // until somebody is looked for
	defer g.again.Stop()
	defer g.asks.Stop()
	var answered time.Time
	if err := g.look(); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.kick:
			for _, o := range g.taken() {
				if err := g.obey(o); err != nil {
					return err
				}
			}
		case <-g.again.C:
			g.greet()
		case <-g.asks.C:
			g.ask()
		case <-hosts.C: // LinkChanged tells of devices earlier
			hosts.Reset(ha.Together(time.Now(), hostsEvery))
			if err := g.look(); err != nil {
				return err
			}
			g.tellHosts()
		case p := <-g.heard:
			if g.hear(p) && time.Since(answered) > greetAgain {
				answered = time.Now()
				g.greet()
			}
		}
	}
}

func (g *Greeter) close() {
	for _, e := range g.ears {
		e.close()
	}
	for _, a := range g.looks {
		if a.ear != nil {
			a.ear.close()
		}
	}
	clear(g.ears)
	clear(g.looks)
}

func (g *Greeter) obey(o any) error {
	switch o := o.(type) {
	case publish:
		g.state = o.state
		g.greet()
	case send:
		g.tell(frame{Kind: kindMessage, To: o.to, Payload: o.payload})
	case ha.Look:
		g.settleLook(o)
	case linked:
		return g.look()
	case change:
		g.cfg, g.seal = o.cfg, o.seal
		g.book.keep(append(slices.Clone(o.cfg.Others), o.cfg.Node))
		return g.look()
	}
	return nil
}

// look keeps one socket open on each device that is there.
func (g *Greeter) look() error {
	wanted := map[string]bool{}
	for _, l := range g.cfg.Lans {
		if wanted[l.Device] {
			continue
		}
		ifi, err := net.InterfaceByName(l.Device)
		if err != nil || len(ifi.HardwareAddr) != 6 { // missing, or none that knows broadcasts
			continue
		}
		wanted[l.Device] = true
		e := g.ears[l.Device]
		if e != nil && e.good(ifi) {
			continue
		}
		if e != nil {
			e.close()
			delete(g.ears, l.Device)
		}
		e, err = openEar(ifi, protocol, nil, g.heard)
		switch {
		case errors.Is(err, unix.EPERM):
			return err
		case err != nil:
			g.problem(l.Device, err)
		default:
			g.problem(l.Device, nil)
			g.ears[l.Device] = e
		}
	}
	for device, e := range g.ears {
		if !wanted[device] {
			e.close()
			delete(g.ears, device)
		}
	}
	return nil
}

// problem logs when something begins or ends to fail on a device.
func (g *Greeter) problem(device string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if g.said[device] == text {
		return
	}
	if g.said[device] = text; text != "" {
		g.log.Warn("greet on a lan", "device", device, "to", "failing", "reason", err)
	} else {
		g.log.Info("greet on a lan", "device", device, "from", "failing", "to", "working")
	}
}

// greet tells this node's state on each lan, and again within HelloEvery.
func (g *Greeter) greet() {
	g.again.Reset(ha.Together(time.Now(), ha.HelloEvery))
	if g.state == nil { // nothing is decided yet
		return
	}
	g.tell(frame{Kind: kindState, Payload: g.state})
}

// tell sends a frame on each lan.
func (g *Greeter) tell(f frame) {
	if len(g.ears) == 0 {
		return
	}
	g.seq++
	f.From, f.Life, f.Seq, f.Challenge, f.Echoes = g.cfg.Node, g.life, g.seq, g.book.challenge, g.book.echoes()
	for _, l := range g.cfg.Lans {
		e := g.ears[l.Device]
		if e == nil {
			continue
		}
		f.Lan = l.Name
		b := g.seal.close(f)
		if len(b) > maxFrame {
			if f.Kind != kindState {
				continue
			}
			small := f
			small.Kind, small.Payload = kindSeen, nil
			b = g.seal.close(small)
		}
		_ = e.broadcast(b) // a link without carrier takes nothing; links are watched elsewhere
	}
}

// hear takes in a packet, and tells whether its sender has to hear this node.
func (g *Greeter) hear(p packetIn) bool {
	g.renew(time.Now())
	if g.opened++; g.opened > perSecond {
		return false
	}
	if p.host {
		for _, l := range g.cfg.Lans {
			if a := g.looks[l.Name]; a != nil && l.Device == p.device && a.answers(p.bytes) {
				g.report(ha.Reached{Lan: l.Name})
			}
		}
		return false
	}
	f, err := g.seal.open(p.bytes)
	switch {
	case errors.Is(err, errOther):
		return false
	case err != nil:
		g.drop(err.Error())
		return false
	case f.Life == g.life:
		return false // this node's own, come back by a loop
	case !slices.ContainsFunc(g.cfg.Lans, func(l Lan) bool { return l.Name == f.Lan && l.Device == p.device }):
		return false
	}
	news, greet := g.book.take(g.cfg.Node, f)
	if !news {
		return greet
	}
	switch f.Kind {
	case kindSeen:
		g.report(ha.PeerSeen{Node: f.From, Lan: f.Lan})
	case kindState:
		state, err := g.told.State(f.From, f.Payload)
		if err != nil {
			g.drop(errGarbage.Error())
			return false
		}
		g.report(ha.PeerTold{State: state, Lan: f.Lan})
	case kindMessage:
		if f.To != g.cfg.Node {
			return false
		}
		msg, err := ha.DecodeMessage(f.Payload)
		if err != nil {
			g.drop(errGarbage.Error())
			return false
		}
		g.report(ha.Told{From: f.From, Message: msg, Lan: f.Lan})
	}
	return false
}

func (g *Greeter) drop(reason string) {
	if g.drops++; g.drops <= dropsPerSecond {
		g.report(ha.Dropped{Part: "gossip", Reason: reason})
	}
}

func (g *Greeter) settleLook(l ha.Look) {
	a := g.looks[l.Lan]
	if len(l.Hosts) == 0 {
		if a != nil && a.ear != nil {
			a.ear.close()
		}
		delete(g.looks, l.Lan)
		return
	}
	if a == nil {
		a = &asking{linkLocal: g.cfg.LinkLocal}
		g.looks[l.Lan] = a
		g.tellHosts()
	}
	a.Look = l
	g.ask()
}

// ask asks all hosts that are looked for, and again in askEvery.
func (g *Greeter) ask() {
	if len(g.looks) == 0 {
		return
	}
	g.asks.Reset(askEvery)
	for _, l := range g.cfg.Lans {
		a := g.looks[l.Name]
		if a == nil {
			continue
		}
		ifi, err := net.InterfaceByName(l.Device)
		if err != nil || len(ifi.HardwareAddr) != 6 {
			continue
		}
		if err := a.listen(ifi, g.heard); err != nil {
			g.log.Warn("ask the hosts of a lan", "lan", l.Name, "reason", err)
			continue
		}
		if err := a.ask(); err != nil {
			g.log.Debug("ask the hosts of a lan", "lan", l.Name, "reason", err)
		}
		g.report(ha.Asked{Lan: l.Name})
	}
}

// tellHosts tells which hosts were seen, where that changed.
func (g *Greeter) tellHosts() {
	for _, l := range g.cfg.Lans {
		ifi, err := net.InterfaceByName(l.Device)
		if err != nil {
			continue
		}
		hosts, err := seen(ifi.Index, l.Networks)
		if err != nil || slices.Equal(hosts, g.hosts[l.Name]) {
			continue // with an error, what was true a moment ago is the best guess
		}
		g.hosts[l.Name] = hosts
		g.report(ha.Hosts{Lan: l.Name, Seen: hosts})
	}
}
