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

	"harouter/ha"
)

// Config says what to watch.
type Config struct {
	Devices []string
	// Auto maps uplinks that look for their gateway to their devices.
	Auto map[string]string
	// Report gets the whole state at start and after each change, from one
	// goroutine.
	Report func(ha.Links)
	Log    *slog.Logger
}

// Watcher is a Task.
type Watcher struct {
	cfg   Config
	state ha.Links
	rates rates
}

// New returns a watcher that Run starts.
func New(cfg Config) *Watcher {
	return &Watcher{cfg: cfg, rates: rates{now: map[string]Rate{}, last: map[string]sample{}}}
}

func (w *Watcher) String() string { return "links" }

const (
	receiveBuffer = 1 << 20 // bytes; other programs' bursts must not push ours out
	lookAnyway    = 10 * time.Second
	sampleEvery   = 2 * time.Second
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
		w.cfg.Log.Warn("link events: reading all again", "error", err)
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
	var routes chan netlink.RouteUpdate
	if len(w.cfg.Auto) > 0 {
		routes = make(chan netlink.RouteUpdate, 256)
		if err := netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{
			ErrorCallback: fail, ReceiveBufferSize: receiveBuffer, ReceiveBufferForceSize: true,
		}); err != nil {
			return fmt.Errorf("subscribe to route events: %w", err)
		}
	}
	if err := w.look(); err != nil {
		return err
	}
	anyway := time.NewTicker(lookAnyway)
	defer anyway.Stop()
	sampling := time.NewTicker(sampleEvery)
	defer sampling.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case u, ok := <-links:
			if !ok {
				return errors.New("the kernel ended the subscription")
			}
			if name := u.Link.Attrs().Name; slices.Contains(w.cfg.Devices, name) {
				err = w.look()
			}
		case u, ok := <-addrs:
			if !ok {
				return errors.New("the kernel ended the subscription")
			}
			if u.LinkAddress.IP.To4() != nil || len(u.LinkAddress.IP) > 0 {
				err = w.look()
			}
		case u, ok := <-routes:
			if !ok {
				return errors.New("the kernel ended the subscription")
			}
			if u.Table == unix.RT_TABLE_MAIN && isDefault(u.Dst) {
				err = w.look()
			}
		case <-anyway.C:
			err = w.look()
		case <-sampling.C:
			w.sample()
		}
		if err != nil {
			return err
		}
	}
}

// look reads the devices and reports if anything differs from last time.
func (w *Watcher) look() error {
	next := ha.Links{Devices: map[string]ha.Link{}, Gateways: map[string]netip.Addr{}}
	for _, name := range w.cfg.Devices {
		link, err := readLink(name)
		if err != nil {
			return err
		}
		next.Devices[name] = link
	}
	for uplink, device := range w.cfg.Auto {
		gw, err := gateway(device)
		if err != nil {
			return err
		}
		if !gw.IsValid() && next.Devices[device].Present {
			gw = w.state.Gateways[uplink] // a link that is down has no routes; its gateway is the one it had
		}
		if gw.IsValid() {
			next.Gateways[uplink] = gw
		}
	}
	if reflect.DeepEqual(next, w.state) {
		return nil
	}
	w.state = next
	w.cfg.Report(ha.Links{Devices: maps.Clone(next.Devices), Gateways: maps.Clone(next.Gateways)})
	return nil
}

func readLink(name string) (ha.Link, error) {
	l, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return ha.Link{}, nil
	}
	if err != nil {
		return ha.Link{}, fmt.Errorf("read the link %s: %w", name, err)
	}
	flags := l.Attrs().RawFlags
	out := ha.Link{Present: true, Carrier: flags&unix.IFF_UP != 0 && flags&unix.IFF_RUNNING != 0 && flags&unix.IFF_LOWER_UP != 0}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if errors.Is(err, unix.ENODEV) {
		return ha.Link{}, nil
	}
	if err != nil {
		return ha.Link{}, fmt.Errorf("read the addresses of %s: %w", name, err)
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		bits, _ := a.Mask.Size()
		out.Addresses = append(out.Addresses, netip.PrefixFrom(ip.Unmap(), bits))
	}
	return out, nil
}

// gateway is the next hop of the best default route of the main table over a
// device; invalid if there is none.
func gateway(device string) (netip.Addr, error) {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return netip.Addr{}, nil // missing devices are no error here
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4,
		&netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the default routes over %s: %w", device, err)
	}
	best, found := netip.Addr{}, -1
	for _, r := range routes {
		if !isDefault(r.Dst) {
			continue
		}
		hops := append([]*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}, r.MultiPath...)
		for _, h := range hops {
			gw, ok := netip.AddrFromSlice(h.Gw)
			if ok && h.LinkIndex == l.Attrs().Index && (found < 0 || r.Priority < found) {
				best, found = gw.Unmap(), r.Priority
			}
		}
	}
	return best, nil
}

// Rate is what passes through a device.
type Rate struct{ Receive, Transmit float64 } // bit/s

type sample struct {
	at     time.Time
	rx, tx uint64 // bytes
}

type rates struct {
	mu   sync.Mutex // read by whoever shows the status
	now  map[string]Rate
	last map[string]sample
}

func (w *Watcher) sample() {
	w.rates.mu.Lock()
	defer w.rates.mu.Unlock()
	for _, name := range w.cfg.Devices {
		l, err := netlink.LinkByName(name)
		if err != nil || l.Attrs().Statistics == nil {
			delete(w.rates.now, name)
			delete(w.rates.last, name)
			continue
		}
		st := l.Attrs().Statistics
		s := sample{at: time.Now(), rx: st.RxBytes, tx: st.TxBytes}
		if old, ok := w.rates.last[name]; ok && s.rx >= old.rx && s.tx >= old.tx {
			secs := s.at.Sub(old.at).Seconds()
			w.rates.now[name] = Rate{Receive: float64(s.rx-old.rx) * 8 / secs, Transmit: float64(s.tx-old.tx) * 8 / secs}
		}
		w.rates.last[name] = s
	}
}

// Rates returns the rate of each device over the last two seconds.
func (w *Watcher) Rates() map[string]Rate {
	w.rates.mu.Lock()
	defer w.rates.mu.Unlock()
	return maps.Clone(w.rates.now)
}
