package links

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
	"harouter/ha"
)

func (w *Watcher) readLink(name string) (ha.Link, error) {
	l, err := w.kernel.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return ha.Link{}, nil
	}
	if err != nil {
		return ha.Link{}, fmt.Errorf("read the link %s: %w", name, err)
	}
	flags := l.Attrs().RawFlags
	out := ha.Link{Present: true, Index: l.Attrs().Index, Point: flags&unix.IFF_POINTOPOINT != 0, Carrier: flags&unix.IFF_UP != 0 && flags&unix.IFF_RUNNING != 0 && flags&unix.IFF_LOWER_UP != 0}
	addrs, err := whole(func() ([]netlink.Addr, error) { return w.kernel.AddrList(l, netlink.FAMILY_ALL) })
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

// gateway is the next hop of the best default route over a line, of the main table
// or else of any other that is not ours: who lets a DHCP client write elsewhere
// keeps the main table for himself. 0.0.0.0: it needs none. Invalid: there is none.
func (w *Watcher) gateway(l ha.Link, line Line) (netip.Addr, error) {
	if !l.Present || line.Point {
		if l.Present {
			return netip.IPv4Unspecified(), nil
		}
		return netip.Addr{}, nil
	}
	routes, err := whole(func() ([]netlink.Route, error) {
		return w.kernel.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the default routes over %s: %w", line.Device, err)
	}
	best, found := netip.Addr{}, [2]int{}
	for _, r := range routes {
		if !isDefault(r.Dst) || r.Protocol == balancer.Protocol || r.Type != unix.RTN_UNICAST {
			continue
		}
		rank := [2]int{1, r.Priority}
		if r.Table == unix.RT_TABLE_MAIN {
			rank[0] = 0
		}
		hops := r.MultiPath
		if len(hops) == 0 {
			hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via}}
		}
		for _, h := range hops {
			if h.LinkIndex != l.Index || h.Via != nil || best.IsValid() && slices.Compare(rank[:], found[:]) >= 0 {
				continue
			}
			best, found = netip.IPv4Unspecified(), rank
			if gw, ok := netip.AddrFromSlice(h.Gw); ok {
				best = gw.Unmap()
			}
		}
	}
	if !best.IsValid() && l.Point && slices.ContainsFunc(l.Addresses, isAddress4) {
		best = netip.IPv4Unspecified()
	}
	return best, nil
}

// isAddress4 tells whether an address is one of IPv4 that leads somewhere.
func isAddress4(p netip.Prefix) bool { return p.Addr().Is4() && !p.Addr().IsLinkLocalUnicast() }

// whole reads a list again that was changed while it was read.
func whole[T any](read func() ([]T, error)) ([]T, error) {
	list, err := read()
	for try := 0; try < 3 && errors.Is(err, netlink.ErrDumpInterrupted); try++ {
		list, err = read()
	}
	return list, err
}
