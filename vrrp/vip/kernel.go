package vip

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// put adds an address without a route to its network: routes are the plan's
// and stay when the address goes. One that is there already is fine.
func put(nl *netlink.Handle, link netlink.Link, p netip.Prefix, scope netlink.Scope) error {
	a := kernelAddr(p)
	a.Flags, a.Scope = unix.IFA_F_NOPREFIXROUTE, int(scope)
	if p.Addr().Is6() {
		a.Flags |= unix.IFA_F_NODAD // it may not wait for a second
	}
	if err := nl.AddrAdd(link, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// take removes an address; one that is not there is fine.
func take(nl *netlink.Handle, link netlink.Link, p netip.Prefix) error {
	err := nl.AddrDel(link, kernelAddr(p))
	if errors.Is(err, unix.EADDRNOTAVAIL) || missing(err) {
		return nil
	}
	return err
}

// list reads the IPv4 addresses of all devices.
func list(nl *netlink.Handle) ([]netlink.Addr, error) {
	addrs, err := nl.AddrList(nil, netlink.FAMILY_V4)
	for try := 0; try < 3 && errors.Is(err, netlink.ErrDumpInterrupted); try++ {
		addrs, err = nl.AddrList(nil, netlink.FAMILY_V4) // one was added or removed meanwhile
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
