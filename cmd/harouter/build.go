package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/netip"

	"harouter/balancer"
	"harouter/balancer/dataplane"
	"harouter/balancer/notice"
	"harouter/balancer/probe"
	"harouter/balancer/race"
	"harouter/balancer/traffic"
	"harouter/conntracksync/kernel"
	"harouter/ha"
	"harouter/ha/child"
	"harouter/ha/events"
	"harouter/ha/fit"
	"harouter/ha/gossip"
	"harouter/ha/hello"
	"harouter/ha/join"
	"harouter/ha/links"
	"harouter/ha/pulse"
	"harouter/vrrp/vip"
	"harouter/vrrp/wire"
)

// build makes all parts; nothing is changed on the machine yet.
func (d *daemon) build() error {
	var err error
	s := d.settings()
	d.planned = make(chan struct{})
	d.buildFollowers(s)
	d.guard = &watchdog{d: d}
	d.places, d.newcomer = make(chan []balancer.Place, learnedQueue), make(chan struct{}, 1)
	d.disk.dir, d.disk.post = d.c.stateDir, func(ev ha.Event) { d.loop.Post(ev) }
	w := s.wire()
	w.Receive, w.Log = d.received, d.log.part("vrrp")
	if d.wire, err = wire.New(w); err != nil {
		return err
	}
	if d.vip, err = vip.New(d.vipConfig(s)); err != nil {
		return err
	}
	if d.plane, err = dataplane.New(dataplane.Config{
		StateDir: d.c.stateDir, Log: d.log.part("dataplane"), MayRepair: func() bool { return d.loop.Awake() },
		Repaired: func(kind, what string) {
			d.loop.Post(ha.Repaired{Kind: kind, What: what})
		},
		Fought: func(kind string, on bool, text string) {
			d.loop.Post(ha.Condition{Code: ha.AlarmFoughtOver, Subject: kind, Text: text, On: on})
		},
		UserLost: func() { d.follow.snippets.Lost() },
		Lacks:    func(what, instead string) { d.record(ha.Record{Kind: "config", Subject: what, Reason: instead}) },
	}); err != nil {
		return err
	}
	if d.key, err = loadKey(d.c.keyFile); err != nil {
		return err
	}
	d.gossip = gossip.New(d.gossipConfig(s))
	if d.hello, err = hello.New(d.helloConfig(s)); err != nil {
		return err
	}
	d.pulse = pulse.New(func(ev ha.Event) { d.loop.Post(ev) }, links.LinkLocal, d.log.part("pulse"))
	known, err := d.remembered()
	if err != nil {
		d.log.part("ha").Warn("the other nodes' addresses of last time", "error", err)
	}
	d.knowOthers(known)
	if err = d.buildReplica(s); err != nil {
		return err
	}
	d.buildEvents()
	if d.join, err = join.New(join.Config{
		Seed: d.key.Derive("join v1"), Log: d.log.part("join"), Give: d.give,
		Event: func(kind, subject, reason string) {
			d.record(ha.Record{Kind: kind, Subject: subject, Reason: reason})
		},
		Drop: func(reason string, source netip.AddrPort) {
			d.loop.Post(ha.Dropped{Part: "sync", Reason: reason, Source: source.Addr()})
		},
	}); err != nil {
		return err
	}
	d.notice = notice.New(d.log.part("dataplane"))
	d.prober = probe.New(probe.Config{
		Uplinks: s.probes(), Log: d.log.part("probe"),
		Report: func(r balancer.Round) {
			d.follow.hooks.Round(r)
			d.loop.Post(ha.Probed{Round: r})
		},
	})
	d.racer = race.New(race.Config{
		Marks: s.racers(), Mask: uint32(s.file.Balance.MarkMask),
		Wanted: d.plane.Wanted, Won: d.plane.Won, Races: d.plane.Races, Log: d.log.part("race"),
	})
	d.links = links.New(links.Config{Devices: s.watched(), Auto: s.auto(), Report: d.linksChanged, Log: d.log.part("links")})
	d.load = traffic.New(traffic.Config{
		Devices: s.uplinkDevices(), Quick: s.goesByLoad(), Log: d.log.part("traffic"),
		Report: func(l map[string]balancer.Load) { d.loop.Post(ha.Loads{Uplinks: l}) },
	})
	d.fitness = fit.New(s.fit(), child.Command, func(command []string, failed string) {
		d.loop.Post(ha.CheckRan{Command: command, Failed: failed})
	})
	d.flows = &flowCounter{count: func(ctx context.Context) (map[uint32]int, error) {
		return kernel.CountByMark(ctx, uint32(d.settings().file.Balance.MarkMask))
	}}
	resting, err := d.resting()
	if err != nil {
		d.log.part("ha").Warn("whether this node was in maintenance", "error", err)
	}
	switches, err := d.switches()
	if err != nil {
		d.log.part("ha").Warn("which uplinks were disabled by hand", "error", err)
	}
	cfg, err := s.ha()
	if err != nil {
		return err
	}
	cfg.Switches = switches
	cfg.Known, cfg.Maintenance, cfg.Refused = known, resting, readTrial(d.c.stateDir)
	if cfg.Crashes, err = (starts{d.c.runDir}).began(); err != nil {
		d.log.part("ha").Warn("how often this daemon crashed", "error", err)
	}
	rand.Read(cfg.Will[:]) // never fails (crypto/rand)
	d.loop = ha.NewLoop(cfg, ha.Ports{
		Adverts: d.wire, Addresses: followed{d.vip, d.follow}, Plane: &followedPlane{Plane: &firstPlan{Kernel: d.plane, done: d.planned, d: d}, followers: d.follow}, Gossip: d.gossip, Lans: d.hello, Files: d,
		Flows:       d.replica,
		Pulse:       d.pulse.Ask,
		Forwarded:   dataplane.Forwarded,
		DeleteFlows: d.deleteFlows, MoveFlows: d.moveFlows, DropAddresses: d.dropAddresses, Probe: d.probe, Guard: d.guard.set, Beat: d.guard.beat, Remember: d.remember,
		Record: d.record,
	}, d.log.part("ha"))
	return nil
}

func (d *daemon) received(r wire.Received) {
	if r.Drop != "" {
		d.loop.Post(ha.Dropped{Part: "vrrp", Reason: string(r.Drop), Source: r.Src})
		return
	}
	d.loop.Post(ha.Advert{Link: r.Link, Source: r.Src, Advert: r.Advert})
}

func (d *daemon) gossiped(ev gossip.Event) {
	switch ev := ev.(type) {
	case gossip.Member:
		if ev.Up {
			d.loop.Post(ha.PeerSeen{Node: ev.Node})
			select {
			case d.newcomer <- struct{}{}:
			default:
			}
		} else {
			d.loop.Post(ha.PeerLost{Node: ev.Node})
		}
	case gossip.State:
		state, err := d.words.State(ev.Node, ev.Payload)
		if err != nil {
			d.loop.Post(ha.Dropped{Part: "gossip", Reason: "garbage"})
			return
		}
		d.loop.Post(ha.PeerTold{State: state})
	case gossip.Message:
		if ev.Kind == events.Kind {
			d.exchange.Received(ev.From, ev.Payload)
			return
		}
		if ev.Kind == learnedKind {
			learned{d}.received(ev.Payload)
			return
		}
		msg, err := ha.DecodeMessage(ev.Payload)
		if err != nil {
			d.loop.Post(ha.Dropped{Part: "gossip", Reason: "garbage"})
			return
		}
		d.loop.Post(ha.Told{From: ev.From, Message: msg})
	case gossip.Drop:
		d.loop.Post(ha.Dropped{Part: "gossip", Reason: ev.Reason, Source: ev.Source})
	}
}

func (d *daemon) linksChanged(l ha.Links) {
	d.loop.Post(ofLinks(l, d.settings()))
	d.prepareNew(l)
	for device := range l.Devices {
		d.wire.LinkChanged(device)
		d.vip.LinkChanged(device)
	}
	d.hello.LinkChanged()
	d.guard.refresh()
	d.own.Store(ownAddresses(l))
	d.configureReplica(d.settings())
}

// ofLinks are the devices of lans and uplinks: those with virtual MACs follow the
// role, and of those of extra networks only the addresses matter, to the
// replication.
func ofLinks(l ha.Links, s *settings) ha.Links {
	others := append(s.macDevices(), s.routeDevices()...)
	if len(others) == 0 {
		return l
	}
	out := ha.Links{Devices: maps.Clone(l.Devices), Gateways: l.Gateways}
	for _, name := range others {
		delete(out.Devices, name)
	}
	return out
}

func (d *daemon) probe(s ha.Source) {
	d.prober.Source(s.Uplink, s.Address)
	d.racer.Source(s.Uplink, s.Address)
	d.prober.Gateway(s.Uplink, s.Gateway)
	d.follow.hooks.Source(s.Uplink, s.Address, s.Gateway)
	if s.Now {
		d.prober.Kick(s.Uplink)
	}
}

// mayRepair tells whether what another program took away may be put back now.
func (d *daemon) mayRepair() bool { return d.loop.MayRepair() }

func (d *daemon) vipConfig(s *settings) vip.Config {
	v := s.vip()
	v.Log, v.MayRepair, v.Raised = d.log.part("vip"), d.mayRepair, func() { d.plane.Raise() }
	v.Repaired = func(a vip.Address) {
		d.loop.Post(ha.Repaired{Kind: "address", What: a.String()})
	}
	v.Conflict = func(c vip.Conflict) {
		d.loop.Post(ha.Condition{
			Code: ha.AlarmAddressConflict, Subject: c.Address.String(), On: !c.Gone,
			Text: fmt.Sprintf("another machine (%v) answers for %v on %s: find it and give it another address", c.MAC, c.Address.Addr(), c.Device),
		})
	}
	return v
}

// helloConfig has the nodes greet each other on each lan. Where a lan is to carry
// unicast only, they do not.
func (d *daemon) helloConfig(s *settings) hello.Config {
	h := hello.Config{
		Cluster: s.file.Cluster, VRID: s.file.VRRP.ID, Node: s.node, Keys: d.key.DeriveAll("lan hello v1"),
		Report: func(ev ha.Event) { d.loop.Post(ev) }, LinkLocal: links.LinkLocal, Log: d.log.part("hello"),
	}
	for name := range s.peers() {
		h.Others = append(h.Others, name)
	}
	if s.file.VRRP.UnicastOnly {
		return h
	}
	for _, l := range s.file.Lans {
		h.Lans = append(h.Lans, hello.Lan{Name: l.Name, Device: s.file.Device(s.node, l.Name), Networks: l.Virtual})
	}
	return h
}
