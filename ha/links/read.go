package links

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

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
	out := ha.Link{Present: true, Index: l.Attrs().Index, Carrier: flags&unix.IFF_UP != 0 && flags&unix.IFF_RUNNING != 0 && flags&unix.IFF_LOWER_UP != 0}
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

// gateway is the next hop of the best default route of the main table over a
// device; invalid if there is none.
func (w *Watcher) gateway(l ha.Link, device string) (netip.Addr, error) {
	if !l.Present {
		return netip.Addr{}, nil
	}
	routes, err := whole(func() ([]netlink.Route, error) {
		return w.kernel.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
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
			if ok && h.LinkIndex == l.Index && (found < 0 || r.Priority < found) {
				best, found = gw.Unmap(), r.Priority
			}
		}
	}
	return best, nil
}

// whole reads a list again that was changed while it was read.
func whole[T any](read func() ([]T, error)) ([]T, error) {
	list, err := read()
	for try := 0; try < 3 && errors.Is(err, netlink.ErrDumpInterrupted); try++ {
		list, err = read()
	}
	return list, err
}
