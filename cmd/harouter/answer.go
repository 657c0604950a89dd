package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	"harouter/balancer"
	"harouter/balancer/dataplane"
	"harouter/ha"
	"harouter/ha/control"
)

// stopArgs travel over the control socket.
type stopArgs struct {
	Clean bool `json:"clean,omitempty"`
}

type statusArgs struct {
	// Watch: it is asked for again and again. The numbers of flows may be older
	// then, as it takes long to count them.
	Watch bool `json:"watch,omitempty"`
}

// handle answers one request of the control socket.
func (d *daemon) handle(ctx context.Context, req control.Request, reply func(any) error) error {
	switch req.Command {
	case "status":
		var args statusArgs
		if err := decode(req.Args, &args); err != nil {
			return err
		}
		s, err := d.status(ctx, args)
		if err != nil {
			return err
		}
		return reply(s)
	case "events":
		var args eventsArgs
		if err := decode(req.Args, &args); err != nil {
			return err
		}
		return d.sendEvents(ctx, args, reply)
	case "failover":
		var args failoverArgs
		if err := decode(req.Args, &args); err != nil {
			return err
		}
		verb, what, err := d.move(args)
		if err != nil {
			return err
		}
		return d.loop.Command(ctx, verb, what)
	case "stop":
		var args stopArgs
		if err := decode(req.Args, &args); err != nil {
			return err
		}
		verb := ha.VerbStop
		if args.Clean {
			verb = ha.VerbClean
		}
		return d.loop.Command(ctx, verb, ha.Args{})
	case "reload":
		var args reloadArgs
		if err := decode(req.Args, &args); err != nil {
			return err
		}
		return d.reload(ctx, args)
	case "maintenance":
		var args maintenanceArgs
		if err := decode(req.Args, &args); err != nil {
			return err
		}
		verb := ha.VerbServe
		if args.On {
			verb = ha.VerbRest
		}
		return d.loop.Command(ctx, verb, ha.Args{})
	case "uplink":
		var args uplinkArgs
		if err := decode(req.Args, &args); err != nil {
			return err
		}
		verb, what, err := d.turn(args)
		if err != nil {
			return err
		}
		return d.loop.Command(ctx, verb, what)
	case "forget":
		return d.forget(ctx)
	case "token":
		var args tokenArgs
		if err := decode(req.Args, &args); err != nil {
			return err
		}
		a, err := d.token(ctx, args)
		if err != nil {
			return err
		}
		return reply(a)
	}
	return fmt.Errorf("the daemon (version %s) does not know the command %q: is it older than this program? Restart it", versionString(), req.Command)
}

// forget has this node taken out of the file, on all others; it leaves then, and
// does not come back by itself.
func (d *daemon) forget(ctx context.Context) error {
	if err := d.loop.Command(ctx, ha.VerbForget, ha.Args{}); err != nil {
		return err
	}
	if err := writeForgotten(d.c.stateDir); err != nil {
		return fmt.Errorf("the others take this node out of their files and it is leaving, but that cannot be kept here: %w; remove %s, or it would disturb them at its next start", err, d.c.config)
	}
	return nil
}

func decode(raw json.RawMessage, into any) error {
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read the command's arguments: %w", err)
	}
	return nil
}

// status is what the machine knows, completed by what only the kernel knows.
func (d *daemon) status(ctx context.Context, args statusArgs) (ha.Status, error) {
	s, err := d.loop.Status(ctx)
	if err != nil {
		return s, err
	}
	// The edges count all, the machine only what reached it in a flood.
	maps.Copy(s.Drops.VRRP, d.wire.Counters())
	maps.Copy(s.Drops.Gossip, d.gossip.Counters())
	if d.settings().file.Firewall.Enabled {
		if refused, err := dataplane.Refused(); err == nil {
			s.Drops.Firewall = refused
		}
	}
	d.syncStatus(ctx, &s)
	s.Repairs.Address = d.vip.Repairs()
	r := d.plane.Repairs()
	s.Repairs.Rule, s.Repairs.Route, s.Repairs.Table, s.Repairs.Sysctl = r.Rule, r.Route, r.Table, r.Sysctl
	if present, err := d.vip.Present(); err == nil {
		for i := range s.VirtualAddresses {
			a := &s.VirtualAddresses[i]
			for _, p := range present {
				if p.Prefix == a.Address && d.settings().file.Device(s.Node, p.Link) == a.Device {
					a.Present = p.Present
				}
			}
		}
	}
	flows, known := d.flows.get(ctx, args.Watch)
	rates := d.load.Rates()
	total := uint64(0)
	for _, n := range flows {
		total += uint64(n)
	}
	for i := range s.Uplinks {
		u := &s.Uplinks[i]
		if known {
			n := uint64(flows[balancer.Mark(u.ID, uint32(d.settings().file.Balance.MarkMask))])
			u.Flows = &n
		}
		if r, ok := rates[u.Name]; ok {
			rx, tx := uint64(r.Down), uint64(r.Up)
			u.RxBPS, u.TxBPS = &rx, &tx
		}
	}
	for i := range s.Nodes {
		if s.Nodes[i].Name == s.Node && known {
			s.Nodes[i].Flows = &total
		}
	}
	return s, nil
}

// flowCounter counts flows by mark, once a second at most: it walks the whole
// connection table.
type flowCounter struct {
	count func(context.Context) (map[uint32]int, error)

	mu   sync.Mutex
	at   time.Time
	took time.Duration // the last time
	last map[uint32]int
}

const (
	// watchShare: counting for those who watch takes a five-hundredth of a
	// processor.
	watchShare = 500
	// watchOldest is how old what they see may be all the same.
	watchOldest = 30 * time.Second
)

// get counts, or tells what was counted within a second; to those who watch,
// longer ago where that takes long.
func (f *flowCounter) get(ctx context.Context, watch bool) (map[uint32]int, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	age := time.Second
	if watch {
		age = max(age, min(f.took*watchShare, watchOldest))
	}
	if time.Since(f.at) > age {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		begin := time.Now()
		n, err := f.count(ctx)
		f.at = time.Now()
		f.took = f.at.Sub(begin)
		if err != nil {
			n = nil
		}
		f.last = n
	}
	return maps.Clone(f.last), f.last != nil
}
