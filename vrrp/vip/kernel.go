package vip

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// put adds an address without a route to its network: routes are the plan's
// and stay when the address goes. One that is there already is fine. Of IPv6 it
// must know what is on all devices.
func put(nl *netlink.Handle, link netlink.Link, p netip.Prefix, scope netlink.Scope, on []netlink.Addr) error {
	if p.Addr().Is6() {
		return put6(nl, link, p, on)
	}
	a := kernelAddr(p)
	a.Flags, a.Scope = unix.IFA_F_NOPREFIXROUTE, int(scope)
	if err := nl.AddrAdd(link, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// forever is the lifetime that does not end.
const forever uint32 = math.MaxUint32

// put6 adds an IPv6 address that is good at once: there is no detection of
// duplicates, which takes a second and would find the node that has it now. It
// is a deprecated one, so that what this node begins by itself does not come from
// it while there is any other (RFC 6724, rule 3). No plan has IPv6 routes: where
// this node has no address of its own in the network, the kernel's route there
// comes and goes with the virtual one.
func put6(nl *netlink.Handle, link netlink.Link, p netip.Prefix, on []netlink.Addr) error {
	if err := speak6(link, true); err != nil {
		return err
	}
	a := kernelAddr(p)
	a.Flags = unix.IFA_F_NODAD
	if p.IsSingleIP() || isIn(on, link, p) {
		a.Flags |= unix.IFA_F_NOPREFIXROUTE
	}
	err := addDeprecated(nl, link, a)
	if errors.Is(err, unix.EEXIST) {
		if err = clear6(nl, link, p); err == nil {
			err = addDeprecated(nl, link, a)
		}
		if errors.Is(err, unix.EEXIST) {
			return nil // it was there, and good
		}
	}
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("%w: IPv6 is switched off there, see net.ipv6.conf.%s.disable_ipv6", err, link.Attrs().Name)
	}
	return err
}

// addDeprecated adds an IPv6 address that stays for ever and is preferred never.
func addDeprecated(h *netlink.Handle, link netlink.Link, a *netlink.Addr) error {
	if math.MaxInt < math.MaxUint32 {
		return addMessage(link, a)
	}
	lasts := int64(forever)
	a.ValidLft = int(lasts)
	return h.AddrAdd(link, a)
}

// addMessage is that where an int has 32 bits: with the library's, which is not
// written where it is negative, the address would end after 68 years. That is
// long, but the kernel does not count it among the permanent ones, by which a
// later self knows it as ours.
func addMessage(link netlink.Link, a *netlink.Addr) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	head := nl.NewIfAddrmsg(netlink.FAMILY_V6)
	length, _ := a.Mask.Size()
	head.Prefixlen, head.Scope, head.Index = uint8(length), uint8(a.Scope), uint32(link.Attrs().Index)
	req.AddData(head)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.IP.To16()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, a.IP.To16()))
	req.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(uint32(a.Flags))))
	lasts := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Valid: forever}}
	req.AddData(nl.NewRtAttr(unix.IFA_CACHEINFO, lasts.Serialize()))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// isIn tells whether this node has an address of its own in the network of p, on
// the device or the one below. What is link-local is reached on each device apart.
func isIn(on []netlink.Addr, link netlink.Link, p netip.Prefix) bool {
	return slices.ContainsFunc(on, func(a netlink.Addr) bool {
		here := a.LinkIndex == link.Attrs().Index || isOurs(link) && a.LinkIndex == link.Attrs().ParentIndex && !p.Addr().IsLinkLocalUnicast()
		q := prefix(a)
		return here && q.Masked() == p.Masked() && q.Addr() != p.Addr() && !asWePut6(a)
	})
}

// asWePut6 tells whether an IPv6 address has the marks of those that we put on.
func asWePut6(a netlink.Addr) bool {
	const marks = unix.IFA_F_NODAD | unix.IFA_F_PERMANENT | unix.IFA_F_DEPRECATED
	return a.Flags&marks == marks
}

// clear6 takes an address away that is in the way of one that is to be added: it
// has another prefix length, and the kernel has each address but once on a
// device, or it is somebody else's and waits, or has failed.
func clear6(nl *netlink.Handle, link netlink.Link, p netip.Prefix) error {
	addrs, err := nl.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return fmt.Errorf("read the addresses of %s: %w", link.Attrs().Name, err)
	}
	for _, have := range addrs {
		if q := prefix(have); q.Addr() == p.Addr() && (q != p || !works(have)) {
			return take(nl, link, q)
		}
	}
	return nil
}

// works tells whether an address can be used: one of IPv6 may be on its device
// and not, while the kernel looks for a duplicate or since it found one.
func works(a netlink.Addr) bool {
	return a.IP.To4() != nil || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 || a.Flags&unix.IFA_F_OPTIMISTIC != 0
}

// take removes an address; one that is not there is fine.
func take(nl *netlink.Handle, link netlink.Link, p netip.Prefix) error {
	err := nl.AddrDel(link, kernelAddr(p))
	if errors.Is(err, unix.EADDRNOTAVAIL) || missing(err) {
		return nil
	}
	return err
}

// list reads the addresses of all devices, of both families.
func list(nl *netlink.Handle) ([]netlink.Addr, error) {
	addrs, err := nl.AddrList(nil, netlink.FAMILY_ALL)
	for try := 0; try < 3 && errors.Is(err, netlink.ErrDumpInterrupted); try++ {
		addrs, err = nl.AddrList(nil, netlink.FAMILY_ALL) // one was added or removed meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("read the addresses: %w", err)
	}
	return addrs, nil
}

// missing tells whether a device is not there.
func missing(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}

// promote sets promote_secondaries of a device. Without it the kernel removes,
// with an address, all others that were added to the same network after it: a
// virtual address would take the admin's along.
func promote(device string) error {
	name := "/proc/sys/net/ipv4/conf/" + device + "/promote_secondaries"
	now, err := os.ReadFile(name)
	if err == nil && !bytes.Equal(bytes.TrimSpace(now), []byte("1")) {
		err = os.WriteFile(name, []byte("1"), 0)
	}
	return err
}
