package pulse

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"harouter/ha"
)

// Asker is a Task.
type Asker struct {
	report func(ha.Event)
	log    *slog.Logger
	kick   chan struct{}

	mu    sync.Mutex // for moments only
	order *ha.Pulse  // for the goroutine of Run

	// The rest belongs to that goroutine.
	book    book
	sockets map[string]*socket // by device
	asked   map[string]bool    // devices on which an answer may lie
	looked  time.Time
	said    map[string]string // problem of a device that was logged
}

// New returns one that asks nobody yet. Report gets ha.Unanswered and
// ha.Recovered; it must not block.
func New(report func(ha.Event), log *slog.Logger) *Asker {
	return &Asker{
		report: report, log: log, kick: make(chan struct{}, 1),
		sockets: map[string]*socket{}, asked: map[string]bool{}, said: map[string]string{},
	}
}

func (a *Asker) String() string { return "pulse" }

// Ask replaces the order. It does not block.
func (a *Asker) Ask(o ha.Pulse) {
	a.mu.Lock()
	a.order = &o
	a.mu.Unlock()
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// lookEvery is how often it is looked whether devices and routes are what they
// were.
const lookEvery = 5 * time.Second

// Run asks until ctx ends. It never fails: who cannot ask is taken over from by
// the timers.
func (a *Asker) Run(ctx context.Context) error {
	defer a.shut(nil)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.kick:
			a.obey()
		case <-timer.C:
		}
		a.tick()
		if due := a.book.due; due.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(due))
		}
	}
}

func (a *Asker) obey() {
	a.mu.Lock()
	o := a.order
	a.mu.Unlock()
	a.book.follow(*o)
	a.look()
}

func (a *Asker) tick() {
	for device := range a.asked {
		a.read(device)
	}
	clear(a.asked)
	ask, tell := a.book.tick(time.Now())
	lost := false
	for _, q := range ask {
		if s := a.sockets[q.on]; s != nil {
			a.asked[q.on] = true
			lost = s.ask(q) != nil || lost // a device without carrier; or one that is gone
		}
	}
	if len(ask) > 0 && !a.book.asking { // the answer comes within microseconds: nobody need wake up for it
		if s := a.sockets[ask[0].on]; s != nil {
			s.await()
			a.read(ask[0].on)
		}
	}
	for _, ev := range tell {
		a.report(ev)
	}
	if since := time.Since(a.looked); len(a.book.ways) > 0 && (since >= lookEvery || lost && since >= sweepEvery) {
		a.look()
	}
}

// read takes in the answers that are there.
func (a *Asker) read(device string) {
	s, now := a.sockets[device], time.Now()
	if s == nil {
		return
	}
	s.read(func(ip netip.Addr, mac net.HardwareAddr) {
		for _, ev := range a.book.heard(device, ip, mac, now) {
			a.report(ev)
		}
	})
}

// look finds out where the ways lead and keeps one socket open on each device.
func (a *Asker) look() {
	a.looked = time.Now()
	wanted := map[string]*net.Interface{}
	for _, w := range slices.Concat(a.book.ways, a.book.others) {
		if w.Device == "" {
			w.on = leads(w.Address)
		}
		if w.on == "" || wanted[w.on] != nil {
			continue
		}
		if ifi, err := net.InterfaceByName(w.on); err == nil && len(ifi.HardwareAddr) == 6 && ifi.Flags&net.FlagLoopback == 0 {
			wanted[w.on] = ifi
		}
	}
	a.shut(wanted)
	for device, ifi := range wanted {
		if a.sockets[device] != nil {
			continue
		}
		s, err := openSocket(ifi)
		a.problem(device, err)
		if err == nil {
			a.sockets[device] = s
		}
	}
}

// shut closes the sockets on devices that are not wanted, or are others now.
func (a *Asker) shut(wanted map[string]*net.Interface) {
	for device, s := range a.sockets {
		if ifi := wanted[device]; ifi == nil || ifi.Index != s.index || !bytes.Equal(ifi.HardwareAddr, s.mac) {
			s.close()
			delete(a.sockets, device)
		}
	}
}

func (a *Asker) problem(device string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != a.said[device] && text != "" {
		a.log.Warn("a dead master is found by the timers alone", "device", device, "reason", err)
	}
	a.said[device] = text
}

// leads is the device behind which an address is a neighbour, "" none.
func leads(to netip.Addr) string {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil || len(routes) == 0 || routes[0].Gw != nil {
		return ""
	}
	ifi, err := net.InterfaceByIndex(routes[0].LinkIndex)
	if err != nil {
		return ""
	}
	return ifi.Name
}
