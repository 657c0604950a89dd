package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"harouter/balancer"
	"harouter/balancer/dataplane"
	"harouter/balancer/notice"
	"harouter/balancer/probe"
	"harouter/balancer/race"
	"harouter/balancer/traffic"
	"harouter/conntracksync/peer"
	"harouter/conntracksync/replica"
	"harouter/ha"
	"harouter/ha/config"
	"harouter/ha/control"
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

func newRun(c *common) *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "the daemon, in the foreground; logs to stderr", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := loadRunning(c)
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
	c       *common
	current atomic.Pointer[settings]
	log     *loggers

	seenMu sync.Mutex // Adopt and fileWatch both look
	seen   ha.FileSeen

	devices map[string]int // the links seen last, by name: their index

	disk     disk
	loop     *ha.Loop
	wire     *wire.Transport
	vip      *vip.Keeper
	plane    *dataplane.Kernel
	gossip   *gossip.Gossip
	hello    *hello.Greeter
	pulse    *pulse.Asker
	prober   *probe.Prober
	racer    *race.Racer
	notice   *notice.Teller
	links    *links.Watcher
	load     *traffic.Watcher
	fitness  *fit.Runner
	guard    *watchdog
	control  *control.Server
	flows    *flowCounter
	events   *events.Log
	exchange *events.Exchange
	join     *join.Server
	key      config.Key
	replica  *replica.Replica
	follow   *followers
	sessions *peer.Sessions
	places   chan []balancer.Place        // that other nodes have learned
	newcomer chan struct{}                // a node has come: it knows nothing
	capacity sync.Map                     // node: how many connections it can hold
	planned  chan struct{}                // closed when the rules are in the kernel
	own      atomic.Pointer[[]netip.Addr] // all addresses of the devices of the file
	others   atomic.Pointer[[]netip.Addr] // those of the other nodes, as they told them

	configuring sync.Mutex // links and a reload both do
	told        *replica.Settings
	unheard     unheard

	words ha.Heard // of the goroutine that gossip tells
}

func (d *daemon) settings() *settings { return d.current.Load() }

func run(ctx context.Context, c *common, s *settings) error {
	if err := checkRights("run"); err != nil {
		return err
	}
	// A log that nobody reads any more is no reason to leave.
	signal.Ignore(syscall.SIGPIPE)
	if lacking := calm(s); lacking != nil {
		slog.Warn("a busy machine may delay this process: keep vrrp.advertise at 100ms or more, or give the rights that lack", "lacking", lacking)
	}
	lines := newLogQueue(os.Stderr)
	defer lines.Close(500 * time.Millisecond)
	d := &daemon{c: c, log: newLoggers(lines, s.file.Log)}
	d.current.Store(s)
	if err := os.MkdirAll(c.runDir, 0o755); err != nil {
		return fmt.Errorf("make the directory of the control socket: %w", err)
	}
	if err := os.MkdirAll(c.stateDir, 0o755); err != nil { // routing goes on without (DESIGN.md §5 row 19)
		d.log.part("ha").Warn("nothing will be remembered over a restart", "error", err)
	}
	if err := patiently(func() (err error) {
		d.control, err = control.Listen(c.runDir, d.handle, d.log.part("control"))
		return err
	}); err != nil {
		return err
	}
	defer d.control.Close()
	if err := patiently(func() error { return checkPorts(s, nil) }); err != nil {
		return err
	}
	if err := endTrial(c, s.text); err != nil {
		d.log.part("ha").Warn("the file of a trial stays", "error", err)
	}
	if err := d.build(); err != nil {
		return err
	}
	if err := writeGeneration(c.stateDir, s.generation, s.text); err != nil {
		d.log.part("ha").Warn("the configuration is not kept for the next start", "error", err)
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

// checkPorts refuses a taken port before anything is changed. What this process
// has open itself, with the settings that it runs, is not taken.
func checkPorts(s, running *settings) error {
	for _, at := range s.gossip() {
		if running != nil && slices.Contains(running.gossip(), at) {
			continue
		}
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
	}
	for _, at := range s.sync() {
		if running != nil && slices.Contains(running.sync(), at) {
			continue
		}
		l, err := net.Listen("tcp", at.String())
		if err == nil {
			err = l.Close()
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("the sync port %v is taken by another program: end it, or set ports.sync to another one on all nodes", at)
		}
	}
	return nil // an address that is not there yet may come
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
	for _, t := range []task{
		d.wire, d.vip, d.gossip, d.hello, d.pulse, d.links, d.guard,
		d.prober, d.racer, d.load, d.fitness, d.notice, d.plane,
		d.join, d.sessions, d.replica, d.control, d.events, d.exchange,
		d.follow.hooks, d.follow.services, d.follow.report, d.follow.snippets, news{d},
		fileWatch{d}, limits{d}, paths{d}, learned{d}, threads{d}, lifeSign{d.guard},
	} {
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
	d.record(ha.Record{Kind: "node", Subject: d.settings().node, To: "started", Reason: "version " + versionString() + ", configuration " + d.settings().file.Hash[:12]})
	d.log.part("ha").Info("started", "cluster", d.settings().file.Cluster, "node", d.settings().node, "version", versionString(), "config", d.settings().file.Hash[:12])
	err := group.Wait()
	if exit != nil && err == nil {
		if err := (starts{d.c.runDir}).ended(); err != nil {
			d.log.part("ha").Warn("the next start", "error", err)
		}
	}
	if exit == nil || !exit.Clean { // without an exit, the guard sees this process end and does what is right
		return err
	}
	return errors.Join(err, d.clean())
}

// prepare sets the sysctls before anything else looks at the devices.
func (d *daemon) prepare() error {
	cfg, err := d.settings().balancer()
	if err != nil {
		return err
	}
	plan, err := balancer.Build(cfg, balancer.Input{})
	if err != nil {
		return err
	}
	return d.plane.Prepare(plan)
}

// prepareNew sets the sysctls of devices that came, before another part of this
// process does: only so is it kept what they were before, for `stop --clean`.
// It is called by the goroutine of the links only.
func (d *daemon) prepareNew(l ha.Links) {
	came := false
	now := make(map[string]int, len(l.Devices))
	for name, link := range l.Devices {
		now[name] = link.Index
		came = came || link.Index != 0 && link.Index != d.devices[name]
	}
	d.devices = now
	if !came {
		return
	}
	if err := d.prepare(); err != nil {
		d.log.part("dataplane").Warn("sysctls of a device that came", "error", err)
	}
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

// signals turns SIGTERM and SIGINT into an orderly leave, and SIGHUP into a
// reload. A second one of the former ends the process at once.
func (d *daemon) signals(ctx context.Context) {
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(ch)
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case sig := <-ch:
			if sig == syscall.SIGHUP { // also of a terminal that is closed
				n--
				go func() {
					if err := d.loop.Command(ctx, ha.VerbReload, ha.Args{}); err != nil && ctx.Err() == nil {
						d.log.part("ha").Error("reload", "error", err)
					}
				}()
				continue
			}
			if n > 0 {
				d.log.part("ha").Error("second signal: leaving at once", "signal", sig)
				os.Exit(1)
			}
			_ = notify("STOPPING=1")
			go func() {
				if err := d.loop.Command(ctx, ha.VerbStop, ha.Args{}); err != nil && ctx.Err() == nil {
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
