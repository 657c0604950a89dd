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
	report    func(ha.Event)
	linkLocal func(index int) (netip.Addr, error)
	log       *slog.Logger
	kick      chan struct{}

	mu    sync.Mutex // for moments only
	order *ha.Pulse  // for the goroutine of Run

	// The rest belongs to that goroutine.
	book    book
	sockets map[spot]*socket
	asked   map[spot]bool // on which an answer may lie
	looked  time.Time
	said    map[spot]string // problem that was logged
}

// New returns one that asks nobody yet. Report gets ha.Unanswered and
// ha.Recovered; it must not block. LinkLocal is an address of IPv6 that those
// behind a device may be asked from.
func New(report func(ha.Event), linkLocal func(index int) (netip.Addr, error), log *slog.Logger) *Asker {
	return &Asker{
		report: report, linkLocal: linkLocal, log: log, kick: make(chan struct{}, 1),
		sockets: map[spot]*socket{}, asked: map[spot]bool{}, said: map[spot]string{},
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
	for at := range a.asked {
		a.read(at)
	}
	clear(a.asked)
	ask, tell := a.book.tick(time.Now())
	lost := false
	for _, q := range ask {
		if s := a.sockets[q.spot()]; s != nil {
			a.asked[q.spot()] = true
			lost = s.ask(q) != nil || lost // a device without carrier; or one that is gone
		}
	}
	if len(ask) > 0 && !a.book.asking { // the answer comes within microseconds: nobody need wake up for it
		if s := a.sockets[ask[0].spot()]; s != nil {
			s.await()
			a.read(ask[0].spot())
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
func (a *Asker) read(at spot) {
	s, now := a.sockets[at], time.Now()
	if s == nil {
		return
	}
	s.read(func(ip netip.Addr, mac net.HardwareAddr) {
		for _, ev := range a.book.heard(at.device, ip, mac, now) {
			a.report(ev)
		}
	})
}

// look finds out where the ways lead and keeps sockets open there.
func (a *Asker) look() {
	a.looked = time.Now()
	wanted := map[spot]*net.Interface{}
	for _, w := range slices.Concat(a.book.ways, a.book.others) {
		if w.Device == "" {
			w.on = leads(w.Address)
		}
		if w.on == "" || wanted[w.spot()] != nil {
			continue
		}
		if ifi, err := net.InterfaceByName(w.on); err == nil && len(ifi.HardwareAddr) == 6 && ifi.Flags&net.FlagLoopback == 0 {
			wanted[w.spot()] = ifi
		}
	}
	a.shut(wanted)
	for at, ifi := range wanted {
		if a.sockets[at] != nil {
			continue
		}
		var from func(int) (netip.Addr, error)
		if at.six {
			from = a.linkLocal
		}
		s, err := openSocket(ifi, from)
		a.problem(at, err)
		if err == nil {
			a.sockets[at] = s
		}
	}
}

// shut closes the sockets on devices that are not wanted, or are others now.
func (a *Asker) shut(wanted map[spot]*net.Interface) {
	for at, s := range a.sockets {
		if ifi := wanted[at]; ifi == nil || ifi.Index != s.index || !bytes.Equal(ifi.HardwareAddr, s.mac) {
			s.close()
			delete(a.sockets, at)
		}
	}
}

func (a *Asker) problem(at spot, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != a.said[at] && text != "" {
		a.log.Warn("a dead master is found by the timers alone", "device", at.device, "reason", err)
	}
	a.said[at] = text
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
