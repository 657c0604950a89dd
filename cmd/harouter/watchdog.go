package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"harouter/ha"
	"harouter/ha/guard"
)

// lookAfterGuard is how often the guard is looked after.
const lookAfterGuard = time.Second

// watchdog keeps a guard process and tells it what to do should this one die.
type watchdog struct {
	d  *daemon
	mu sync.Mutex // the loop sets orders, Run replaces a guard that died

	client *guard.Client
	orders ha.Guard
	told   bool
	lives  [2]uint64 // the runs of this node and of the heir that the words are for
	beats  atomic.Uint64
}

func (w *watchdog) String() string { return "guard" }

// start ends the guard of a former run and starts one for this.
func (w *watchdog) start() error {
	log := w.d.log.part("guard")
	switch previous, err := guard.TakeOver(w.d.c.runDir); {
	case errors.Is(err, guard.ErrDaemonAlive):
		return fmt.Errorf("the guard in %s says that its daemon is alive: end that one first", w.d.c.runDir)
	case err != nil:
		log.Warn("end the guard of a former run", "error", err)
	case previous != nil:
		log.Info("took over from the guard of a former run", "addresses_held", previous.Holding)
	}
	client, err := w.spawn()
	if err != nil {
		return err
	}
	w.client = client
	return nil
}

func (w *watchdog) spawn() (*guard.Client, error) {
	// This very program, also after an upgrade has put another at its path.
	client, err := guard.Start("/proc/self/exe", []string{guardVerb, w.d.c.runDir}, w.d.c.runDir, w.d.log.part("guard"))
	if err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	return client, nil
}

// Run starts another guard when one dies, and hands on its word.
func (w *watchdog) Run(ctx context.Context) error {
	log := w.d.log.part("guard")
	look := time.NewTicker(lookAfterGuard)
	defer look.Stop()
	looked, silent := time.Now(), 0
	for {
		w.mu.Lock()
		client := w.client
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case at := <-look.C:
			if w.stale() {
				w.refresh()
			}
			switch {
			case client.Ping() || at.Sub(looked) > 2*lookAfterGuard: // or it was this process that slept
				silent = 0
			default:
				silent++
			}
			looked = at
			if silent == 2 {
				log.Error("the guard hangs; ending it to start another", "pid", client.PID())
				if err := client.Kill(); err != nil {
					log.Error("end the guard", "error", err)
				}
				silent = 0
			}
		case <-client.Fenced():
			w.d.loop.Post(ha.Fenced{})
		case <-client.Died():
			log.Error("the guard died; starting another")
			next, err := w.spawn()
			if err != nil {
				log.Error("without a guard until the next try", "error", err)
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(time.Second):
				}
				continue
			}
			w.mu.Lock()
			w.client = next
			w.mu.Unlock()
			w.refresh()
		}
	}
}

// set takes the machine's orders.
func (w *watchdog) set(g ha.Guard) {
	w.mu.Lock()
	w.orders, w.told = g, true
	w.mu.Unlock()
	w.refresh()
}

func (w *watchdog) beat() {
	w.beats.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.client.Beat()
}

// refresh tells the guard the orders again: what it would send depends on the
// links and their addresses.
func (w *watchdog) refresh() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.told {
		return
	}
	if err := w.client.Set(w.state()); err != nil && !errors.Is(err, guard.ErrEnded) {
		w.d.log.part("guard").Error("tell the guard", "error", err)
	}
}

func (w *watchdog) state() guard.State {
	v := w.d.settings().file.VRRP
	st := guard.State{
		Holding: w.orders.Holding, OneHolder: len(w.d.settings().macDevices()) > 0, PeerAlive: w.orders.PeerAlive, VRID: v.ID, Hang: ha.Lease(v.Advertise),
		Local: w.d.settings().self().Addresses[0], Senders: slices.Clone(w.orders.Senders), Foreign: len(v.Foreign) > 0,
	}
	for _, a := range w.d.settings().vip().Addresses {
		st.Addresses = append(st.Addresses, guard.Address{Device: a.Device, Prefix: a.Prefix})
	}
	for _, l := range w.d.settings().wire().Links {
		devices := []string{l.Device}
		for _, m := range []string{l.MACDevice, l.MACDevice6} {
			if m != "" { // adverts with its MAC come there
				devices = append(devices, m)
			}
		}
		st.Devices = append(st.Devices, devices...)
		if l.VRID == v.ID {
			continue
		}
		if st.VRIDs == nil {
			st.VRIDs = map[string]uint8{}
		}
		for _, d := range devices {
			st.VRIDs[d] = l.VRID
		}
	}
	frames, err := w.d.wire.Frames(0)
	if err != nil {
		w.d.log.part("guard").Error("make the farewell", "error", err)
	}
	for _, f := range frames {
		st.Farewell = append(st.Farewell, guard.Frame(f))
	}
	st.Words = w.words()
	slices.SortFunc(st.Senders, netip.Addr.Compare)
	return st
}

// words are what the guard tells the successor.
func (w *watchdog) words() []guard.Word {
	if w.orders.Heir == "" || w.orders.Will == nil {
		return nil
	}
	own, other := w.d.gossip.Lives(w.orders.Heir)
	w.lives = [2]uint64{own, other}
	if other == 0 {
		return nil // it was not heard yet
	}
	sealed, err := w.d.gossip.Ahead(w.orders.Heir, string(ha.KindFenced), ha.Message{Kind: ha.KindFenced, Will: w.orders.Will}.Encode())
	if err != nil {
		w.d.log.part("guard").Error("make the word for the successor", "error", err)
	}
	var out []guard.Word
	for _, s := range sealed {
		out = append(out, guard.Word(s))
	}
	return out
}

// stale tells whether the words are for a run that has ended.
func (w *watchdog) stale() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.orders.Heir == "" || w.orders.Will == nil {
		return false
	}
	own, other := w.d.gossip.Lives(w.orders.Heir)
	return w.lives != [2]uint64{own, other}
}
