package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lookEvery is how often devices and addresses are looked at beside the events
// that LinkChanged tells of.
const lookEvery = time.Second

// keep follows devices, addresses and settings until ctx ends.
func (t *Transport) keep(ctx context.Context) error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer nl.Close()
	devices, err := openDevices()
	if err != nil {
		return err
	}
	defer devices.close()

	t.terms.Store(t.cfg.terms(nil))
	e := ears{terms: &t.terms, receive: t.receive, broken: t.poke}
	defer e.close()
	problems := problems{log: t.log}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		for _, p := range e.settle(t.cfg.places()) {
			problems.forget(p.String())
		}
		if err := e.look(devices, problems.tell); errors.Is(err, unix.EPERM) {
			return err
		}
		t.open.Store(e.connections())
		t.look(nl, devices, problems.tell)
		select {
		case <-ctx.Done():
			return nil
		case c := <-t.changes:
			c.done <- t.change(c.cfg, nl, devices, &problems)
		case <-t.kick:
		case <-ticker.C:
		}
	}
}

// look finds out where each path leads, and gives the sender new packets if
// one leads elsewhere than before.
func (t *Transport) look(nl *netlink.Handle, devices *devices, tell func(string, error)) {
	addrs, err := readAddresses(nl, t.paths)
	tell("read the addresses", err)
	if err != nil {
		return // what was true a moment ago is the best guess
	}
	own, leads := survey(t.cfg, t.paths, addrs, devices)
	t.terms.Store(t.cfg.terms(own))
	t.mu.Lock()
	if t.lead(leads) {
		t.publish()
	}
	t.mu.Unlock()
	for _, p := range t.paths {
		tell("send to "+p.name, p.problem())
	}
}

// readAddresses returns those of the families that paths need.
func readAddresses(nl *netlink.Handle, paths []*path) ([]netlink.Addr, error) {
	family := netlink.FAMILY_V4
	if slices.ContainsFunc(paths, func(p *path) bool { return p.dst.Is6() }) {
		family = netlink.FAMILY_ALL
	}
	addrs, err := nl.AddrList(nil, family)
	for try := 0; try < 3 && errors.Is(err, netlink.ErrDumpInterrupted); try++ {
		addrs, err = nl.AddrList(nil, family) // one was added or removed meanwhile
	}
	return addrs, err
}

// lead is where a path leads; zero: nowhere.
type lead struct {
	index int // of the device
	src   netip.Addr
	own   net.HardwareAddr // the device's MAC, if another one is sent
}

func (l lead) equal(o lead) bool {
	return l.index == o.index && l.src == o.src && bytes.Equal(l.own, o.own)
}

// survey tells which addresses are this node's own, and where each path leads.
func survey(cfg Config, paths []*path, addrs []netlink.Addr, devices *devices) (map[netip.Addr]bool, []lead) {
	own := map[netip.Addr]bool{cfg.Local: true}
	for _, a := range addrs {
		if ip := addrOf(a); !slices.Contains(cfg.Virtual, ip) {
			own[ip] = true
		}
	}
	leads := make([]lead, len(paths))
	for i, p := range paths {
		if p.device == "" {
			leads[i].src = cfg.Local
			continue
		}
		leads[i].index = devices.index(p.device)
		leads[i].src = source(addrs, leads[i].index, cfg.Virtual, p.dst.Is6())
		if p.mac == nil || leads[i].index == 0 {
			continue
		}
		if ifi, err := net.InterfaceByIndex(leads[i].index); err == nil && len(ifi.HardwareAddr) == len(p.mac) {
			leads[i].own = ifi.HardwareAddr
		} else {
			leads[i].index = 0 // no Ethernet: nothing can be framed
		}
	}
	return own, leads
}

// lead takes note of where each path leads now, and tells whether that is
// anything new. The caller holds mu.
func (t *Transport) lead(leads []lead) bool {
	changed := false
	for i, p := range t.paths {
		if !p.equal(leads[i]) {
			p.lead = leads[i]
			p.errno.Store(0)
			changed = true
		}
	}
	return changed
}

// problem says why nothing leaves on a path.
func (p *path) problem() error {
	switch errno := unix.Errno(p.errno.Load()); {
	case p.absent != nil:
		return p.absent
	case p.device != "" && p.index == 0:
		return fmt.Errorf("there is no device %s", p.device)
	case !p.src.IsValid():
		if p.dst.Is6() {
			return fmt.Errorf("%s has no own link-local IPv6 address", p.device)
		}
		return fmt.Errorf("%s has no own IPv4 address", p.device)
	case errno != 0:
		return errno
	}
	return nil
}

// source is the address that adverts leave a device with: the first permanent
// one that is nobody's but this node's, a global one rather than a link-local
// one; a leased one if there is no other. Over IPv6 it is a link-local one
// always (RFC 9568 §5.1.2.1), once the kernel lets it be used.
func source(addrs []netlink.Addr, index int, virtual []netip.Addr, six bool) netip.Addr {
	var best netip.Addr
	rank := 0
	for _, a := range addrs {
		ip := addrOf(a)
		if a.LinkIndex != index || !ip.IsValid() || ip.Is6() != six || slices.Contains(virtual, ip) {
			continue
		}
		r := 3
		switch {
		case six && (!ip.IsLinkLocalUnicast() || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0):
			r = 0
		case a.Flags&unix.IFA_F_PERMANENT == 0:
			r = 1
		case ip.IsLinkLocalUnicast():
			r = 2
		}
		if r > rank {
			best, rank = ip, r
		}
	}
	return best
}

func addrOf(a netlink.Addr) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.IP)
	return ip.Unmap()
}

// devices looks devices up by name.
type devices struct{ fd int }

func openDevices() (*devices, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket to look devices up: %w", err)
	}
	return &devices{fd: fd}, nil
}

func (d *devices) close() { _ = unix.Close(d.fd) }

// index is 0 for a device that is not there.
func (d *devices) index(name string) int {
	i, err := deviceIndex(d.fd, name)
	if err != nil {
		return 0
	}
	return i
}

// up tells whether a device is there and switched on.
func (d *devices) up(name string) bool {
	req, err := unix.NewIfreq(name)
	return err == nil && unix.IoctlIfreq(d.fd, unix.SIOCGIFFLAGS, req) == nil && req.Uint16()&unix.IFF_UP != 0
}

func deviceIndex(fd int, name string) (int, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("look %s up: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, fmt.Errorf("look %s up: %w", name, err)
	}
	return int(req.Uint32()), nil
}
