package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// laid is a route that we know to have been in the kernel.
type laid struct {
	way  string
	over []string // devices
}

// passRoutes compares the routes, and sets what lacks or leads elsewhere. A
// route whose device is missing or down is left out and told. What is too much
// is returned: it goes when no rule leads there any more.
func (k *Kernel) passRoutes(p *balancer.Plan, write bool) (d difference, surplus []netlink.Route) {
	have, whole, err := k.ourRoutes()
	if err == nil && !whole && !write {
		err = errInterrupted
	}
	if err != nil {
		d.err = fmt.Errorf("read the routes: %w", err)
		return d, nil
	}
	want, planned, there := map[string]bool{}, map[string]bool{}, map[string]laid{}
	for _, r := range p.Routes {
		place := planPlace(r)
		planned[place] = true
		route, err := k.kernelRoute(r)
		var unknown unknownError
		if errors.As(err, &unknown) { // it may be right as it is
			d.err = errors.Join(d.err, fmt.Errorf("set the route %v: %w", r, err))
			want[place] = true
			if old, ok := k.wrote.routes[place]; ok {
				there[place] = old
			}
			continue
		}
		if err != nil {
			if !r.Waits {
				d.err = errors.Join(d.err, &SkippedError{Item: "the route " + r.String(), Reason: err.Error()})
			}
			if route == nil {
				delete(k.wrote.routes, place)
				continue
			}
		}
		want[place] = true
		now := laid{way: routeWay(*route)}
		for _, h := range r.Hops {
			now.over = append(now.over, h.Device)
		}
		old, ok := have[place]
		if ok && routeWay(old) == now.way {
			there[place] = now
			if r.Waits && k.wrote.routes != nil { // set by Raise
				k.wrote.routes[place] = now
			}
			continue
		}
		d.change = true
		if write {
			if err := k.setRoute(r, route, ok, old); err != nil {
				d.err = errors.Join(d.err, err)
				continue
			}
			there[place] = now
		}
		if whole && (err == nil || !r.Waits) && k.wrote.routes[place].way == now.way {
			d.damage("%v", r)
		}
	}
	for place, route := range have {
		if want[place] {
			continue
		}
		d.change = true
		surplus = append(surplus, route)
		if _, ours := k.wrote.routes[place]; k.wrote.routes != nil && !ours && !planned[place] {
			d.damage("one too much to %v in table %d", destination(route), route.Table)
		}
	}
	if write {
		k.wrote.routes = there
	}
	return d, surplus
}

// setRoute writes one route. In the main table nothing is ever replaced, since
// that could hit a route of others with the same destination: ours is put behind.
func (k *Kernel) setRoute(r balancer.Route, route *netlink.Route, there bool, old netlink.Route) error {
	set := k.routes.RouteReplace
	if r.Table == unix.RT_TABLE_MAIN {
		set = k.routes.RouteAppend
	}
	// What replaces a route with a dead hop shares it with the old one, dead.
	if there && (r.Table == unix.RT_TABLE_MAIN || dead(old)) {
		if err := k.routes.RouteDel(&old); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove the route %v: %w", r, err)
		}
	}
	err := set(route)
	switch {
	case err == nil, errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENODEV):
		return &SkippedError{Item: "the route " + r.String(), Reason: "the device went away"}
	case errors.Is(err, unix.EINVAL) && route.Src != nil && !k.holds(route.Src):
		return &SkippedError{Item: "the route " + r.String(), Reason: "its source has just left this node", soon: true}
	case errors.Is(err, unix.EINVAL) && k.holds(route.Gw):
		if there { // it would lead out without an address to be answered at
			if err := k.routes.RouteDel(&old); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("remove the former route of %v: %w", r, err)
			}
		}
		return &SkippedError{Item: "the route " + r.String(), Reason: "the gateway is an address of this node", soon: true}
	}
	return fmt.Errorf("set the route %v: %w", r, err)
}

// holds tells whether an address is on this node, nil never. On a backup the way
// leads over the master's, which it may be about to give up.
func (k *Kernel) holds(a net.IP) bool {
	addrs, err := k.routes.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(on netlink.Addr) bool { return a != nil && on.IP.Equal(a) })
}

// ourRoutes are the routes with our protocol number, in whatever table; whole:
// nothing changed while they were read.
func (k *Kernel) ourRoutes() (out map[string]netlink.Route, whole bool, err error) {
	var all []netlink.Route
	for range dumpTries {
		all, err = k.routes.RouteListFiltered(netlink.FAMILY_V4,
			&netlink.Route{Protocol: balancer.Protocol}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, false, err
	}
	out = map[string]netlink.Route{}
	for _, r := range all {
		out[routePlace(r)] = r
	}
	return out, err == nil, nil
}

// kernelRoute resolves the devices. It returns nil if no hop is left, and an
// error that names what is missing.
func (k *Kernel) kernelRoute(r balancer.Route) (*netlink.Route, error) {
	route := &netlink.Route{
		Table: r.Table, Protocol: balancer.Protocol, Priority: r.Metric, Family: netlink.FAMILY_V4,
		Dst:  &net.IPNet{IP: r.To.Addr().AsSlice(), Mask: net.CIDRMask(r.To.Bits(), 32)},
		Type: unix.RTN_UNICAST,
	}
	if r.Unreachable {
		route.Type = unix.RTN_UNREACHABLE
		return route, nil
	}
	if r.Source.IsValid() && k.holds(r.Source.AsSlice()) {
		route.Src = r.Source.AsSlice()
	}
	var failed error
	var hops []*netlink.NexthopInfo
	for _, h := range r.Hops {
		index, err := k.hopDevice(h, r.Waits)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		n := &netlink.NexthopInfo{LinkIndex: index, Hops: max(h.Weight, 1) - 1}
		if h.Gateway.IsValid() {
			n.Gw, n.Flags = h.Gateway.AsSlice(), int(netlink.FLAG_ONLINK)
		}
		hops = append(hops, n)
	}
	switch len(hops) {
	case 0:
		return nil, failed
	case 1:
		route.LinkIndex, route.Gw, route.Flags = hops[0].LinkIndex, hops[0].Gw, hops[0].Flags
		if route.Gw == nil {
			route.Scope = netlink.SCOPE_LINK
		}
	default:
		route.MultiPath = hops
	}
	return route, failed
}

// unknownError: the kernel did not tell whether a device is there.
type unknownError struct{ error }

func (e unknownError) Unwrap() error { return e.error }

// hopDevice is the index of a hop's device; a hop that names none (the master's
// address) goes where the main table leads directly. One that waits lacks while
// its device has no address: nothing may leave by it then.
func (k *Kernel) hopDevice(h balancer.Hop, waits bool) (int, error) {
	if h.Device == "" {
		ways, err := k.routes.RouteGetWithOptions(h.Gateway.AsSlice(), &netlink.RouteGetOptions{})
		if err != nil || len(ways) == 0 || ways[0].Gw != nil {
			return 0, fmt.Errorf("%v is not on a network of this node", h.Gateway)
		}
		return ways[0].LinkIndex, nil
	}
	l, err := k.routes.LinkByName(h.Device)
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return 0, fmt.Errorf("the device %s is missing", h.Device)
	}
	if err != nil {
		return 0, unknownError{fmt.Errorf("look for the device %s: %w", h.Device, err)}
	}
	if l.Attrs().Flags&net.FlagUp == 0 {
		return 0, fmt.Errorf("the device %s is down", h.Device)
	}
	if _, made := l.(*netlink.Macvlan); waits && made {
		addrs, err := k.routes.AddrList(l, netlink.FAMILY_V4)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return 0, unknownError{fmt.Errorf("read the addresses of %s: %w", h.Device, err)}
		}
		if len(addrs) == 0 {
			return 0, fmt.Errorf("the device %s holds no address", h.Device)
		}
	}
	return l.Attrs().Index, nil
}

// routePlace is what there can be one of.
func routePlace(r netlink.Route) string {
	return fmt.Sprint(r.Table, " ", destination(r), " ", r.Priority)
}

// planPlace is the place of a route that may not be there.
func planPlace(r balancer.Route) string { return fmt.Sprint(r.Table, " ", r.To, " ", r.Metric) }

func destination(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	a, _ := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}

func nextHops(r netlink.Route) []*netlink.NexthopInfo {
	if len(r.MultiPath) > 0 {
		return r.MultiPath
	}
	return []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Flags: r.Flags}}
}

// dead tells whether a hop's device was down, or without any address.
func dead(r netlink.Route) bool {
	return slices.ContainsFunc(nextHops(r), func(h *netlink.NexthopInfo) bool { return h.Flags&unix.RTNH_F_DEAD != 0 })
}

// routeWay is where it leads.
func routeWay(r netlink.Route) string {
	var words []string
	for _, h := range nextHops(r) {
		words = append(words, fmt.Sprint(h.LinkIndex, " ", h.Gw, " ", h.Hops, " ", h.Flags&unix.RTNH_F_DEAD))
	}
	slices.Sort(words)
	return fmt.Sprint(r.Type, " ", r.Src, " ", strings.Join(words, ","))
}

func (k *Kernel) removeRoutes(routes []netlink.Route) error {
	var failed error
	for _, r := range routes {
		if err := k.routes.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			failed = errors.Join(failed, fmt.Errorf("remove a route of table %d: %w", r.Table, err))
		}
	}
	return failed
}
