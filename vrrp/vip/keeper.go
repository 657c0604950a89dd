package vip

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

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Timing is when held addresses are announced: at once, then at each of Bursts
// after that, then each Refresh.
type Timing struct {
	Bursts  []time.Duration
	Refresh time.Duration
	// Settle is how long an address that somebody removed stays away before it
	// is put back: whoever slept, and was fenced meanwhile, learns first what
	// has become of its role.
	Settle time.Duration
}

// DefaultTiming repeats soon, since single frames get lost while a switch
// learns, and refreshes within the shortest usual ageing time (300 s).
var DefaultTiming = Timing{
	Bursts:  []time.Duration{time.Second, 2 * time.Second, 5 * time.Second},
	Refresh: time.Minute,
	Settle:  300 * time.Millisecond,
}

// Config says what to hold.
type Config struct {
	Addresses []Address
	Own       []OwnAddress
	MACs      []VirtualMAC // devices that Addresses name and that are made for them
	Timing    Timing       // zero: DefaultTiming
	// MayRepair is asked before anything is put back or announced again that
	// nobody asked for just now: only who is sure to be master may. It must be
	// quick and not call the Keeper. Nil: always.
	MayRepair func() bool
	// Repaired, if set, is told of each address that somebody had removed and
	// that was put back. It must be quick and not call the Keeper.
	Repaired func(Address)
	// Raised, if set, is called when devices of MACs have just been switched on,
	// before anything is announced there: routes over them may be set. It must
	// not call the Keeper.
	Raised func()
	// Conflict, if set, is told while addresses are held that another machine
	// answers for one of them, and when that has ended. It is called from the
	// goroutine of Run and may call the Keeper. Nil: nobody listens or asks.
	Conflict func(Conflict)
	Log      *slog.Logger
}

// Keeper is a Task; its methods may be called from any goroutine.
type Keeper struct {
	mayRepair func() bool
	repaired  func(Address)
	raised    func()
	conflict  func(Conflict)
	log       *slog.Logger
	kick      chan struct{}
	again     chan struct{}
	repairs   atomic.Uint64

	// mu: one change at a time. Nothing that is done under it waits for
	// anything but the kernel's own lock on addresses.
	mu      sync.Mutex
	cfg     Config   // only what Configure replaces
	devices []string // of all addresses, sorted
	nl      *netlink.Handle
	arp     *announcer
	held    bool
	turns   uint64 // counts Add, Remove and Announce
	series  series
	state   map[string]device
	there   map[spot]bool // what was on its device when it was looked at last
	lost    map[spot]*loss
	ownAt   map[spot]time.Time // when a device's own address was set last
	unset   map[spot]string    // own addresses that could not be set, and why
	unmade  map[string]string  // devices of MACs that could not be made, and why
	swept   bool               // of devices that a former self made
	hushAt  time.Time          // when those that were made are to be off

	// Present has its own: a status request holds up no Add.
	reader *netlink.Handle
	shown  atomic.Pointer[[]Address]
}

// New opens what is needed to change addresses; it changes nothing.
func New(cfg Config) (*Keeper, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.MayRepair == nil {
		cfg.MayRepair = func() bool { return true }
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	reader, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		nl.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	k := &Keeper{
		mayRepair: cfg.MayRepair, repaired: cfg.Repaired, raised: cfg.Raised, conflict: cfg.Conflict, log: cfg.Log,
		kick: make(chan struct{}, 1), again: make(chan struct{}, 1),
		nl: nl, reader: reader, arp: newAnnouncer(cfg.Log),
		state: map[string]device{}, there: map[spot]bool{}, lost: map[spot]*loss{}, ownAt: map[spot]time.Time{}, unset: map[spot]string{},
		unmade: map[string]string{},
	}
	k.adopt(cfg)
	return k, nil
}

func (k *Keeper) String() string { return "vip" }

// Add puts every address on that lacks and announces all of them, before it
// returns. An address whose device is missing is told in the error and holds
// up no other one; it is put on when the device comes.
func (k *Keeper) Add(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = true
	k.turns++
	clear(k.lost)
	var failed error
	links := map[string]netlink.Link{}
	var on []Address
	there := k.there6()
	for _, a := range k.cfg.Addresses {
		if err := ctx.Err(); err != nil {
			return errors.Join(failed, fmt.Errorf("add %v: %w", a, err))
		}
		if err := k.putOn(links, there, a); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		on = append(on, a)
	}
	failed = errors.Join(failed, k.raise(links))
	k.announceAll(links, on) // after the last one is on: these are worth more than frames
	k.series.start(time.Now())
	poke(k.kick)
	return failed
}

// announceAll announces what has just been put on.
func (k *Keeper) announceAll(links map[string]netlink.Link, as []Address) {
	var six []Address
	for _, a := range as {
		switch {
		case a.Prefix.Addr().Is4():
			k.arp.announce(links[a.Device], a)
		case up(links[a.Device]): // else nobody is to be told, and nothing to be awaited
			six = append(six, a)
		}
	}
	k.await6(links, six)
	for _, a := range six {
		k.arp.announce(links[a.Device], a)
	}
}

// awaitMost is how long the kernel may take for that: it was seen to take 40 ms
// on a machine with ten times more to do than it could.
const awaitMost = 40 * time.Millisecond

// await6 waits until IPv6 addresses take packets. The kernel adds them at once,
// but the route by which they are this machine's only in a queue of its own, also
// where it looks for no duplicates (addrconf_dad_work); hosts that were told
// before would lose what they send.
func (k *Keeper) await6(links map[string]netlink.Link, as []Address) {
	for begin := time.Now(); len(as) > 0 && time.Since(begin) < awaitMost; {
		ways, err := k.nl.RouteGetWithOptions(as[0].Prefix.Addr().AsSlice(), &netlink.RouteGetOptions{OifIndex: links[as[0].Device].Attrs().Index})
		if err == nil && len(ways) == 1 && ways[0].Type == unix.RTN_LOCAL {
			as = as[1:]
			continue
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// link looks a device up, once for each call of Add.
func (k *Keeper) link(known map[string]netlink.Link, name string) (netlink.Link, error) {
	if l := known[name]; l != nil {
		return l, nil
	}
	l, err := k.device(name)
	if err != nil {
		return nil, err
	}
	known[name] = l
	k.prepare(name, l)
	return l, nil
}

// there6 are the IPv6 addresses of this node, if there is one to put on.
func (k *Keeper) there6() []netlink.Addr {
	if !k.has(func(a Address) bool { return a.Prefix.Addr().Is6() }) {
		return nil
	}
	on, err := k.nl.AddrList(nil, netlink.FAMILY_V6)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		k.log.Warn("read the IPv6 addresses", "reason", err)
	}
	return on
}

// putOn puts one address on, if it is not there; links are those found so far.
func (k *Keeper) putOn(links map[string]netlink.Link, there []netlink.Addr, a Address) error {
	link, err := k.link(links, a.Device)
	if err == nil {
		err = put(k.nl, link, a.Prefix, netlink.SCOPE_UNIVERSE, there)
	}
	if err != nil {
		return fmt.Errorf("add %v: %w", a, err)
	}
	return nil
}

// Remove takes every address away and ends the announcing. It also takes away
// what a former self with another prefix length has left. From then on nothing
// leaves with a virtual MAC; Run switches those devices off.
func (k *Keeper) Remove(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = false
	k.hushAt = time.Now().Add(hushAfter)
	k.turns++
	clear(k.lost)
	poke(k.kick)
	return removeEvery(k.nl, k.cfg.Addresses, true)
}

// removeEvery takes addresses away, whatever their prefix lengths are.
func removeEvery(nl *netlink.Handle, as []Address, all bool) error {
	err := remove(nl, as, all)
	addrs, listErr := list(nl)
	if listErr != nil {
		return errors.Join(err, fmt.Errorf("look for what is left: %w", listErr))
	}
	for _, a := range as {
		link, linkErr := nl.LinkByName(a.Device)
		if linkErr != nil {
			continue // remove has told, if that is worth telling
		}
		for _, have := range addrs {
			if p := prefix(have); have.LinkIndex == link.Attrs().Index && p.Addr() == a.Prefix.Addr() {
				if e := take(nl, link, p); e != nil {
					err = errors.Join(err, fmt.Errorf("remove %v from %s: %w", p, a.Device, e))
				}
			}
		}
	}
	return err
}

// Cleanup takes away the link-local addresses that were set, and the devices
// that were made. Run must have ended: it would set them again.
func (k *Keeper) Cleanup(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var own []Address
	for _, o := range k.cfg.Own {
		own = append(own, Address{Device: o.Device, Prefix: o.Prefix})
	}
	return errors.Join(remove(k.nl, own, true), removeMacvlans(k.nl, func(string) bool { return false }))
}

// Announce begins a new series of announcements of what is held. It never blocks.
func (k *Keeper) Announce() { poke(k.again) }

// LinkChanged tells of an event on a device or its addresses: all are looked at
// again. It never blocks.
func (k *Keeper) LinkChanged(string) { poke(k.kick) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Repairs counts the addresses that somebody had removed and that were put back.
func (k *Keeper) Repairs() uint64 { return k.repairs.Load() }

// Present tells which addresses are on their devices.
func (k *Keeper) Present() ([]Status, error) {
	addresses := *k.shown.Load()
	out := make([]Status, 0, len(addresses))
	if len(addresses) == 0 {
		return out, nil
	}
	addrs, err := list(k.reader)
	if err != nil {
		return nil, err
	}
	index := map[string]int{}
	for _, a := range addresses {
		if _, ok := index[a.Device]; !ok {
			link, err := k.reader.LinkByName(a.Device)
			switch {
			case err == nil:
				index[a.Device] = link.Attrs().Index
			case missing(err):
				index[a.Device] = 0
			default:
				return nil, fmt.Errorf("read %s: %w", a.Device, err)
			}
		}
		out = append(out, Status{Address: a, Present: present(addrs, index[a.Device], a.Prefix)})
	}
	return out, nil
}

func present(addrs []netlink.Addr, index int, p netip.Prefix) bool {
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.LinkIndex == index && prefix(a) == p && works(a) })
}
