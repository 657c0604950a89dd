package vip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Address is one virtual address.
type Address struct {
	Device  string
	Prefix  netip.Prefix
	Link    string     // lan or uplink, for the log
	Gateway netip.Addr // the ISP's router, told by an ARP request; zero none
}

func (a Address) String() string { return a.Prefix.String() + " on " + a.Device }

// OwnAddress is set on a device that has no permanent IPv4 address of its own.
type OwnAddress struct {
	Device  string
	Prefix  netip.Prefix   // link-local
	Virtual []netip.Prefix // what is on the device as virtual addresses does not count
}

// Timing is when held addresses are announced: at once, then at each of Bursts
// after that, then each Refresh.
type Timing struct {
	Bursts  []time.Duration
	Refresh time.Duration
}

// DefaultTiming repeats soon, since single frames get lost while a switch
// learns, and refreshes within the shortest usual ageing time (300 s).
var DefaultTiming = Timing{Bursts: []time.Duration{time.Second, 2 * time.Second, 5 * time.Second}, Refresh: time.Minute}

// Config says what to hold.
type Config struct {
	Addresses []Address
	Own       []OwnAddress
	Timing    Timing // zero: DefaultTiming
	Log       *slog.Logger
}

// Status is an address and whether it is on its device now.
type Status struct {
	Address
	Present bool
}

// Keeper is a Task; its methods may be called from any goroutine.
type Keeper struct {
	cfg  Config
	arp  *announcer
	kick chan string
	wake chan struct{}

	mu    sync.Mutex // one change of addresses at a time
	nl    *netlink.Handle
	held  bool
	since time.Time // of the last announcement that began a series
}

// New opens what is needed to change addresses; it changes nothing.
func New(cfg Config) (*Keeper, error) {
	for _, a := range cfg.Addresses {
		if !a.Prefix.Addr().Is4() {
			return nil, fmt.Errorf("hold %v: IPv6 virtual addresses are not built yet", a)
		}
	}
	if cfg.Timing.Refresh == 0 {
		cfg.Timing = DefaultTiming
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &Keeper{cfg: cfg, arp: newAnnouncer(cfg.Log), kick: make(chan string, 256), wake: make(chan struct{}, 1), nl: nl}, nil
}

func (k *Keeper) String() string { return "vip" }

// Add puts every address on that lacks and announces all. An address whose
// device is missing is told in the error and does not hold up the others; it
// is put on when the device comes.
func (k *Keeper) Add(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held, k.since = true, time.Now()
	var failed error
	var on []Address
	for _, a := range k.cfg.Addresses {
		if err := k.put(a.Device, a.Prefix, false); err != nil {
			failed = errors.Join(failed, fmt.Errorf("add %v: %w", a, err))
			continue
		}
		on = append(on, a)
	}
	k.arp.announce(on)
	k.nudge()
	return failed
}

// Remove takes every address away and ends the announcing.
func (k *Keeper) Remove(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = false
	return remove(k.nl, k.cfg.Addresses)
}

// Cleanup takes away the link-local addresses that were set.
func (k *Keeper) Cleanup(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var own []Address
	for _, o := range k.cfg.Own {
		own = append(own, Address{Device: o.Device, Prefix: o.Prefix})
	}
	return remove(k.nl, own)
}

// Announce begins a new series of announcements of what is held.
func (k *Keeper) Announce() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.held {
		return
	}
	k.since = time.Now()
	k.arp.announce(k.cfg.Addresses)
	k.nudge()
}

func (k *Keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Present tells which addresses are on their devices.
func (k *Keeper) Present() ([]Status, error) {
	out := make([]Status, 0, len(k.cfg.Addresses))
	for _, a := range k.cfg.Addresses {
		link, err := k.nl.LinkByName(a.Device)
		if missing(err) {
			out = append(out, Status{Address: a})
			continue
		}
		if err != nil {
			return out, fmt.Errorf("read %s: %w", a.Device, err)
		}
		addrs, err := k.nl.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return out, fmt.Errorf("read the addresses of %s: %w", a.Device, err)
		}
		out = append(out, Status{Address: a, Present: slices.ContainsFunc(addrs, func(n netlink.Addr) bool { return prefix(n) == a.Prefix })})
	}
	return out, nil
}

// LinkChanged tells of an event on a device: a device that came gets its own
// address and, while they are held, its virtual ones. It never blocks.
func (k *Keeper) LinkChanged(device string) {
	select {
	case k.kick <- device:
	default:
	}
}

// Run announces again and looks after devices that come, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	defer k.arp.close()
	for _, o := range k.cfg.Own {
		k.restore(o.Device)
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(k.next())
		select {
		case <-ctx.Done():
			return nil
		case device := <-k.kick:
			k.restore(device)
		case <-k.wake:
		case <-timer.C:
			k.repeat()
		}
	}
}

// next is how long until held addresses are announced again.
func (k *Keeper) next() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.held {
		return time.Hour
	}
	passed := time.Since(k.since)
	for _, b := range k.cfg.Timing.Bursts {
		if passed < b {
			return b - passed
		}
	}
	r := k.cfg.Timing.Refresh
	return r - passed%r
}

func (k *Keeper) repeat() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held {
		k.arp.announce(k.cfg.Addresses)
	}
}

// restore gives a device what it should have.
func (k *Keeper) restore(device string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range k.cfg.Own {
		if o.Device != device {
			continue
		}
		if err := k.own(o); err != nil && !missing(err) {
			k.cfg.Log.Warn("own address", "device", device, "error", err)
		}
	}
	if !k.held {
		return
	}
	var on []Address
	for _, a := range k.cfg.Addresses {
		if a.Device != device {
			continue
		}
		switch err := k.put(a.Device, a.Prefix, false); {
		case missing(err):
		case err != nil:
			k.cfg.Log.Warn("add a virtual address", "address", a, "error", err)
		default:
			on = append(on, a)
		}
	}
	k.arp.announce(on)
}

// own sets the link-local address of a device that has no permanent one, and
// takes it away from one that has got another.
func (k *Keeper) own(o OwnAddress) error {
	link, err := k.nl.LinkByName(o.Device)
	if err != nil {
		return err
	}
	// A virtual address that is removed must not take the admin's along, which
	// the kernel makes secondary to it if they share a network.
	if err := promote(o.Device); err != nil {
		k.cfg.Log.Warn("promote_secondaries", "device", o.Device, "error", err)
	}
	addrs, err := k.nl.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	has, set := false, false
	for _, a := range addrs {
		switch p := prefix(a); {
		case p == o.Prefix:
			set = true
		case !slices.Contains(o.Virtual, p):
			has = true
		}
	}
	switch {
	case !has && !set:
		return k.put(o.Device, o.Prefix, true)
	case has && set:
		return remove(k.nl, []Address{{Device: o.Device, Prefix: o.Prefix}})
	}
	return nil
}

// put adds one address; one that is there already is fine.
func (k *Keeper) put(device string, p netip.Prefix, linkScope bool) error {
	link, err := k.nl.LinkByName(device)
	if err != nil {
		return err
	}
	a := kernelAddr(p)
	a.Flags = unix.IFA_F_NOPREFIXROUTE
	if linkScope {
		a.Scope = int(netlink.SCOPE_LINK)
	}
	if err := k.nl.AddrAdd(link, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

func kernelAddr(p netip.Prefix) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
}

func prefix(a netlink.Addr) netip.Prefix {
	ip, _ := netip.AddrFromSlice(a.IP)
	bits, _ := a.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits)
}

// missing tells whether a device is not there.
func missing(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}
