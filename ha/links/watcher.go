package links

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
	"harouter/ha"
)

// Config says what to watch.
type Config struct {
	Devices []string
	// Auto are the uplinks that look for their gateway, by name.
	Auto map[string]Line
	// Report gets the whole state at start and after each change, from one
	// goroutine.
	Report func(ha.Links)
	Log    *slog.Logger
}

// Line is where an uplink looks for its gateway.
type Line struct {
	Device string // among Config.Devices
	// Point: it is between two points and needs no gateway, whatever routes there
	// are. Else the gateway is that of the best default route over the device.
	Point bool
}

// Watcher is a Task.
type Watcher struct {
	report  func(ha.Links)
	log     *slog.Logger
	changed chan struct{} // settings has something new

	mu       sync.Mutex
	settings settings

	// The rest belongs to the goroutine of Run.
	watched settings
	state   ha.Links
	kernel  *netlink.Handle
}

// settings is what to watch. It is never changed, only replaced.
type settings struct {
	seq     uint64 // counts Configure
	devices []string
	auto    map[string]Line
}

// New returns a watcher that Run starts.
func New(cfg Config) *Watcher {
	return &Watcher{
		report: cfg.Report, log: cfg.Log, changed: make(chan struct{}, 1),
		settings: settings{seq: 1, devices: slices.Clone(cfg.Devices), auto: maps.Clone(cfg.Auto)},
	}
}

// Read tells the state as it is now, once. It needs no rights.
func Read(devices []string, auto map[string]Line) (ha.Links, error) {
	var found ha.Links
	w := New(Config{Report: func(l ha.Links) { found = l }})
	w.watched = settings{devices: devices, auto: auto}
	var err error
	if w.kernel, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return found, fmt.Errorf("open netlink: %w", err)
	}
	defer w.kernel.Close()
	err = w.look(true)
	return found, err
}

// Configure replaces the devices to watch and the uplinks that look for their
// gateway. It never blocks; Report follows at once, even if nothing differs.
// What is known of devices that stay is kept.
func (w *Watcher) Configure(devices []string, auto map[string]Line) {
	w.mu.Lock()
	w.settings = settings{seq: w.settings.seq + 1, devices: slices.Clone(devices), auto: maps.Clone(auto)}
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *Watcher) String() string { return "links" }

const (
	receiveBuffer = 1 << 20 // bytes; other programs' bursts must not push ours out
	lookAnyway    = 10 * time.Second
)

// Run watches until ctx ends. A subscription that breaks is made anew and all
// is read again.
func (w *Watcher) Run(ctx context.Context) error {
	for {
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.EPERM) {
			return err
		}
		w.log.Warn("link events: reading all again", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (w *Watcher) watch(ctx context.Context) error {
	done := make(chan struct{})
	defer close(done)
	failed := make(chan error, 3)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	var err error
	if w.kernel, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer w.kernel.Close()
	links := make(chan netlink.LinkUpdate, 256)
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{
		ErrorCallback: fail, ReceiveBufferSize: receiveBuffer, ReceiveBufferForceSize: true,
	}); err != nil {
		return fmt.Errorf("subscribe to link events: %w", err)
	}
	addrs := make(chan netlink.AddrUpdate, 256)
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{
		ErrorCallback: fail, ReceiveBufferSize: receiveBuffer, ReceiveBufferForceSize: true,
	}); err != nil {
		return fmt.Errorf("subscribe to address events: %w", err)
	}
	var routes chan netlink.RouteUpdate // nil while no uplink looks for its gateway
	begin := func() error {
		w.mu.Lock()
		now := w.settings
		w.mu.Unlock()
		if len(now.auto) > 0 && routes == nil {
			routes = make(chan netlink.RouteUpdate, 256)
			if err := netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{
				ErrorCallback: fail, ReceiveBufferSize: receiveBuffer, ReceiveBufferForceSize: true,
			}); err != nil {
				return fmt.Errorf("subscribe to route events: %w", err)
			}
		}
		anew := now.seq != w.watched.seq
		for uplink, line := range w.watched.auto {
			if now.auto[uplink] != line { // what was known is of another line
				delete(w.state.Gateways, uplink)
			}
		}
		w.watched = now
		return w.look(anew)
	}
	if err := begin(); err != nil {
		return err
	}
	anyway := time.NewTicker(lookAnyway)
	defer anyway.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-w.changed:
			err = begin()
		case u, ok := <-links:
			if !ok {
				return errors.New("the kernel ended the subscription")
			}
			if w.concerns(u.Link.Attrs()) {
				err = w.look(false)
			}
		case u, ok := <-addrs:
			if !ok {
				return errors.New("the kernel ended the subscription")
			}
			if len(u.LinkAddress.IP) > 0 {
				err = w.look(false)
			}
		case u, ok := <-routes:
			if !ok {
				return errors.New("the kernel ended the subscription")
			}
			if isDefault(u.Dst) && u.Protocol != balancer.Protocol {
				err = w.look(false)
			}
		case <-anyway.C:
			err = w.look(false)
		}
		if err != nil {
			return err
		}
	}
}

// concerns tells whether an event is of a watched device, also under a name that
// it has just been given.
func (w *Watcher) concerns(a *netlink.LinkAttrs) bool {
	return slices.ContainsFunc(w.watched.devices, func(name string) bool {
		return a.Name == name || a.Index == w.state.Devices[name].Index
	})
}

// look reads the devices and reports if anything differs from last time, or
// anyway.
func (w *Watcher) look(anyway bool) error {
	next := ha.Links{Devices: map[string]ha.Link{}, Gateways: map[string]netip.Addr{}}
	for _, name := range w.watched.devices {
		link, err := w.readLink(name)
		if err != nil {
			return err
		}
		next.Devices[name] = link
	}
	for uplink, line := range w.watched.auto {
		gw, err := w.gateway(next.Devices[line.Device], line)
		if err != nil {
			return err
		}
		if !gw.IsValid() && next.Devices[line.Device].Present {
			gw = w.state.Gateways[uplink] // a link that is down has no routes; its gateway is the one it had
		}
		if gw.IsValid() {
			next.Gateways[uplink] = gw
		}
	}
	if !anyway && reflect.DeepEqual(next, w.state) {
		return nil
	}
	w.state = next
	w.report(ha.Links{Devices: maps.Clone(next.Devices), Gateways: maps.Clone(next.Gateways)})
	return nil
}
