package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// place is where packets are listened for: the group on a device, or what is
// sent to a local address.
type place struct {
	link   string // reported with what is heard
	device string // "" unicast
	six    bool   // IPv6
	local  netip.Addr
	// tap: the device is one with a virtual MAC. It may be missing or down, and
	// only what comes with that MAC counts: all else the device below hears too.
	tap bool
}

func (p place) String() string {
	switch {
	case p.device == "":
		return "listen at " + p.local.String()
	case p.six:
		return "listen on " + p.device + " over IPv6"
	}
	return "listen on " + p.device
}

// ears keeps one socket open at each place. One goroutine owns it.
type ears struct {
	places  []place // those to listen at
	terms   *atomic.Pointer[terms]
	receive func(Received)
	broken  func() // a socket failed: look again
	open    map[place]*ear
	wg      sync.WaitGroup
}

type ear struct {
	socket *socket
	index  int // of the device when the socket was opened
	failed atomic.Bool
}

// settle sets the places to listen at, closes what is open anywhere else and
// tells of the places that are none any more.
func (e *ears) settle(places []place) (gone []place) {
	gone = slices.DeleteFunc(e.places, func(p place) bool { return slices.Contains(places, p) })
	for _, p := range gone {
		if ear := e.open[p]; ear != nil {
			ear.socket.close()
			delete(e.open, p)
		}
	}
	e.places = places
	return gone
}

// look opens what can be opened, and closes what belongs to a device that went
// or is another one under the same name.
func (e *ears) look(devices *devices, tell func(string, error)) error {
	if e.open == nil {
		e.open = map[place]*ear{}
	}
	var failed error
	for _, p := range e.places {
		index := 0
		if p.device != "" {
			index = devices.index(p.device)
		}
		if p.tap && !devices.up(p.device) {
			index = 0 // nothing comes there
		}
		if old := e.open[p]; old != nil {
			if old.index == index && !old.failed.Load() {
				continue
			}
			old.socket.close()
			delete(e.open, p)
		}
		if p.tap && index == 0 {
			continue
		}
		err := fmt.Errorf("there is no device %s", p.device)
		if p.device == "" || index != 0 {
			err = e.listen(p, index)
		}
		tell(p.String(), err)
		failed = errors.Join(failed, err)
	}
	return failed
}

func (e *ears) listen(p place, index int) error {
	s, err := openSocket(p, index)
	if err != nil {
		return err
	}
	ear := &ear{socket: s, index: index}
	e.open[p] = ear
	e.wg.Go(func() {
		if err := s.run(p.link, e.terms, e.receive); err != nil {
			ear.failed.Store(true)
			// Not at once: a socket that fails again and again must not keep us busy.
			time.AfterFunc(50*time.Millisecond, e.broken)
		}
	})
	return nil
}

// close ends all, and returns when no receiver runs any more.
func (e *ears) close() {
	for _, ear := range e.open {
		ear.socket.close()
	}
	clear(e.open)
	e.wg.Wait()
}

// Spots are where Listen listens.
type Spots struct {
	Devices     []string // to the groups of both families
	MACs, MACs6 []string // devices with virtual MACs, of IPv4 and of IPv6
	Local       netip.Addr
}

func (s Spots) places() []place {
	var out []place
	for _, d := range s.Devices {
		out = append(out, place{link: d, device: d}, place{link: d, device: d, six: true})
	}
	for _, d := range s.MACs {
		out = append(out, place{link: d, device: d, tap: true})
	}
	for _, d := range s.MACs6 {
		out = append(out, place{link: d, device: d, tap: true, six: true})
	}
	if s.Local.IsValid() {
		out = append(out, place{local: s.Local, six: s.Local.Is6()})
	}
	return out
}

// Listen reports the packets that come to the groups on each device, by the
// device's name, and to the local address if that is one. Devices may come and
// go. It returns nil when ctx ends, an error if sockets are not allowed. The
// guard uses it.
func Listen(ctx context.Context, spots Spots, receive func(Received)) error {
	var all atomic.Pointer[terms]
	all.Store(&terms{own: map[netip.Addr]bool{spots.Local: true}})
	kick := make(chan struct{}, 1)
	e := ears{terms: &all, receive: receive, broken: func() {
		select {
		case kick <- struct{}{}:
		default:
		}
	}}
	e.places = spots.places()
	devices, err := openDevices()
	if err != nil {
		return err
	}
	defer devices.close()
	defer e.close()
	problems := problems{log: slog.New(slog.DiscardHandler)}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if err := e.look(devices, problems.tell); errors.Is(err, unix.EPERM) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-kick:
		case <-ticker.C:
		}
	}
}
