package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"harouter/balancer"
	"harouter/balancer/dataplane"
	"harouter/balancer/probe"
	"harouter/conntracksync/kernel"
	"harouter/ha"
	"harouter/ha/control"
	"harouter/ha/gossip"
	"harouter/ha/guard"
	"harouter/ha/links"
	"harouter/vrrp/vip"
	"harouter/vrrp/wire"
)

func newRun(c *common) *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "the daemon, in the foreground; logs to stderr", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := load(c)
			if err != nil {
				return err
			}
			return run(cmd.Context(), c, s)
		},
	}
}

// task is everything that lives as long as the daemon.
type task interface {
	Run(context.Context) error
	String() string
}

// daemon is the node with all its edges.
type daemon struct {
	c   *common
	s   *settings
	log *loggers

	loop    *ha.Loop
	wire    *wire.Transport
	vip     *vip.Keeper
	plane   *dataplane.Kernel
	gossip  *gossip.Gossip
	prober  *probe.Prober
	links   *links.Watcher
	guard   *watchdog
	control *control.Server
	flows   *flowCounter
}

func run(ctx context.Context, c *common, s *settings) error {
	if err := checkRights("run"); err != nil {
		return err
	}
	// A log that nobody reads any more, and a terminal that is closed, are no
	// reason to leave.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP)
	if err := guard.Nice(-20); err != nil {
		slog.Warn("run at normal priority: on a busy machine the guard may take this process for hanging", "error", err)
	}
	debug.SetGCPercent(50) // a small heap: what is saved in memory costs next to nothing here
	d := &daemon{c: c, s: s, log: newLoggers(s.file.Log)}
	for _, dir := range []string{c.runDir, c.stateDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the directory %s: %w", dir, err)
		}
	}
	if err := patiently(func() (err error) {
		d.control, err = control.Listen(c.runDir, d.handle, d.log.part("control"))
		return err
	}); err != nil {
		return err
	}
	defer d.control.Close()
	if err := patiently(d.checkPorts); err != nil {
		return err
	}
	if err := d.build(); err != nil {
		return err
	}
	return d.run(ctx)
}

// patience is how long a former self that was killed may take to vanish: its
// lock and its ports are free only when the kernel has ended all its threads.
const patience = 700 * time.Millisecond

// patiently tries again for a moment before it takes an error for final.
func patiently(try func() error) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// checkPorts refuses a taken port before anything is changed.
func (d *daemon) checkPorts() error {
	at := netip.AddrPortFrom(d.s.self().Addresses[0], d.s.file.Ports.Gossip)
	l, err := net.Listen("tcp", at.String())
	if err == nil {
		var u net.PacketConn
		if u, err = net.ListenPacket("udp", at.String()); err == nil {
			err = u.Close()
		}
		err = errors.Join(err, l.Close())
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("the gossip port %v is taken by another program: end it, or set ports.gossip to another one on all nodes", at)
	}
	return nil // an address that is not there yet may come
}

// build makes all parts; nothing is changed on the machine yet.
func (d *daemon) build() error {
	var err error
	d.guard = &watchdog{d: d}
	w := d.s.wire()
	w.Receive, w.Log = d.received, d.log.part("vrrp")
	if d.wire, err = wire.New(w); err != nil {
		return err
	}
	v := d.s.vip()
	v.Log = d.log.part("vip")
	v.MayRepair = func() bool { return d.loop.MayRepair() }
	if d.vip, err = vip.New(v); err != nil {
		return err
	}
	if d.plane, err = dataplane.New(dataplane.Config{Log: d.log.part("dataplane"), StateDir: d.c.stateDir}); err != nil {
		return err
	}
	key, err := loadKey(d.c.keyFile)
	if err != nil {
		return err
	}
	var keys [][]byte
	for _, k := range key.DeriveAll("harouter gossip v1") {
		keys = append(keys, k[:])
	}
	d.gossip = gossip.New(gossip.Config{
		Node: d.s.node, Address: d.s.self().Addresses[0], Port: int(d.s.file.Ports.Gossip), Peers: d.s.peers(),
		Keys: keys, ClusterLabel: d.s.file.Cluster, Handler: d.gossiped, Log: d.log.part("gossip"),
	})
	d.prober = probe.New(probe.Config{
		Uplinks: d.s.probes(), Log: d.log.part("probe"),
		Report: func(r balancer.Round) { d.loop.Post(ha.Probed{Round: r}) },
	})
	d.links = links.New(links.Config{Devices: d.s.devices(), Auto: d.s.auto(), Report: d.linksChanged, Log: d.log.part("links")})
	d.flows = &flowCounter{count: func(ctx context.Context) (map[uint32]int, error) {
		return kernel.CountByMark(ctx, uint32(d.s.file.Balance.MarkMask))
	}}
	known, err := d.remembered()
	if err != nil {
		d.log.part("ha").Warn("the other nodes' addresses of last time", "error", err)
	}
	cfg, err := d.s.ha(known)
	if err != nil {
		return err
	}
	d.loop = ha.NewLoop(cfg, ha.Ports{
		Adverts: d.wire, Addresses: d.vip, Plane: d.plane, Gossip: d.gossip,
		DeleteFlows: d.deleteFlows, Probe: d.probe, Guard: d.guard.set, Beat: d.guard.beat, Remember: d.remember,
	}, d.log.part("ha"))
	return nil
}

// run starts everything and ends it in order.
func (d *daemon) run(parent context.Context) error {
	if err := d.guard.start(); err != nil {
		return err
	}
	if err := d.prepare(); err != nil {
		d.log.part("dataplane").Warn("sysctls", "error", err)
	}
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range []task{d.wire, d.vip, d.plane, d.gossip, d.prober, d.links, d.control, d.guard} {
		group.Go(func() error {
			if err := t.Run(ctx); err != nil {
				return fmt.Errorf("%v: %w", t, err)
			}
			return nil
		})
	}
	if found, err := d.found(); err != nil {
		d.log.part("ha").Warn("look for addresses of a former run", "error", err)
	} else if found > 0 {
		d.loop.Post(ha.Found{Addresses: found})
	}
	var exit *ha.Exit
	group.Go(func() error {
		defer cancel()
		e, err := d.loop.Run(ctx)
		if err != nil || ctx.Err() != nil {
			return err
		}
		exit = &e
		return d.dismiss(e) // before anything else: from now on nothing beats
	})
	group.Go(func() error { d.signals(ctx); return nil })
	if err := notify("READY=1"); err != nil {
		d.log.part("ha").Warn("tell systemd", "error", err)
	}
	d.log.part("ha").Info("started", "cluster", d.s.file.Cluster, "node", d.s.node, "version", versionString(), "config", d.s.file.Hash[:12])
	err := group.Wait()
	if exit == nil || !exit.Clean { // without an exit, the guard sees this process end and does what is right
		return err
	}
	return errors.Join(err, d.clean())
}

// prepare sets the sysctls before anything else looks at the devices.
func (d *daemon) prepare() error {
	cfg, err := d.s.balancer()
	if err != nil {
		return err
	}
	plan, err := balancer.Build(cfg, balancer.Input{})
	if err != nil {
		return err
	}
	return d.plane.Prepare(plan)
}

const leaveLimit = 3 * time.Second

// dismiss ends the guard, or leaves the addresses to it.
func (d *daemon) dismiss(exit ha.Exit) error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	if exit.Keep {
		return d.guard.client.Release(ctx)
	}
	return d.guard.client.Retire(ctx)
}

// clean takes away what would otherwise stay for the next run.
func (d *daemon) clean() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	return errors.Join(d.plane.Cleanup(ctx), d.vip.Cleanup(ctx))
}

// signals turns SIGTERM and SIGINT into an orderly leave; the second one ends
// the process at once.
func (d *daemon) signals(ctx context.Context) {
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(ch)
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case sig := <-ch:
			if n > 0 {
				d.log.part("ha").Error("second signal: leaving at once", "signal", sig)
				os.Exit(1)
			}
			_ = notify("STOPPING=1")
			go func() {
				if err := d.loop.Command(ctx, ha.VerbStop, ""); err != nil && ctx.Err() == nil {
					d.log.part("ha").Error("leave", "error", err)
				}
			}()
		}
	}
}

// found counts virtual addresses that are on the devices already.
func (d *daemon) found() (int, error) {
	present, err := d.vip.Present()
	n := 0
	for _, p := range present {
		if p.Present {
			n++
		}
	}
	return n, err
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
		} else {
			d.loop.Post(ha.PeerLost{Node: ev.Node})
		}
	case gossip.State:
		state, err := ha.DecodePeerState(ev.Payload)
		if err != nil || state.Node != ev.Node {
			d.loop.Post(ha.Dropped{Part: "gossip", Reason: "garbage"})
			return
		}
		d.loop.Post(ha.PeerTold{State: state})
	case gossip.Message:
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
	d.loop.Post(l)
	for device := range l.Devices {
		d.wire.LinkChanged(device)
		d.vip.LinkChanged(device)
	}
	d.guard.refresh()
}

func (d *daemon) probe(s ha.Source) {
	d.prober.Source(s.Uplink, s.Address)
	d.prober.Gateway(s.Uplink, s.Gateway)
	if s.Now {
		d.prober.Kick(s.Uplink)
	}
}

func (d *daemon) deleteFlows(ctx context.Context, uplink string) error {
	for _, u := range d.s.file.Uplinks {
		if u.Name == uplink {
			mask := uint32(d.s.file.Balance.MarkMask)
			return kernel.DeleteByMark(ctx, balancer.Mark(u.ID, mask), mask)
		}
	}
	return nil
}

func (d *daemon) peersFile() string { return filepath.Join(d.c.stateDir, "peers.json") }

func (d *daemon) remembered() (map[string][]netip.Addr, error) {
	known := map[string][]netip.Addr{}
	b, err := os.ReadFile(d.peersFile())
	if errors.Is(err, os.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return known, err
	}
	if err := json.Unmarshal(b, &known); err != nil {
		return map[string][]netip.Addr{}, fmt.Errorf("read %s: %w", d.peersFile(), err)
	}
	return known, nil
}

// remember writes the file whole or not at all.
func (d *daemon) remember(known map[string][]netip.Addr) error {
	b, err := json.Marshal(known)
	if err != nil {
		return err
	}
	tmp := d.peersFile() + "." + strconv.Itoa(os.Getpid())
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", tmp, err), ignoreMissing(os.Remove(tmp)))
	}
	return os.Rename(tmp, d.peersFile())
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
