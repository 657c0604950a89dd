package vip

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// VirtualMAC is a device of ours that has the MAC of a virtual router
// (RFC 9568 §7.3): a macvlan upon a real device. It is up while its addresses
// are held and down else.
//
// Two things make it silent, one quick and one thorough. With the last address
// the kernel takes the routes over the device away, and with ARP it forgets the
// neighbours that it would ask again there: from then on nothing leaves with that
// MAC, and switches may learn that it is elsewhere; what still comes in is
// forwarded by the parent. Switching the device off holds the kernel's lock on
// all devices for some 10 ms. It keeps out what a switch floods, and follows.
//
// A virtual router of IPv6 has another MAC, and so a device of its own. There,
// addresses that went one by one would be told to the switches at once (the
// hosts' groups are left, by MLD): IPv6 as a whole is switched off before.
type VirtualMAC struct {
	Name   string // of the macvlan, at most 15 bytes
	Parent string
	MAC    net.HardwareAddr
}

// alias marks the devices that we made, for whoever looks at `ip link`, and for
// a run of us that has another file.
const alias = "harouter virtual MAC"

// isSix tells whether a MAC is that of a virtual router of IPv6 (RFC 9568 §7.3).
func isSix(mac net.HardwareAddr) bool {
	return bytes.HasPrefix(mac, []byte{0x00, 0x00, 0x5e, 0x00, 0x02})
}

// isOurs tells whether a device is one that we made.
func isOurs(link netlink.Link) bool {
	m, ok := link.(*netlink.Macvlan)
	return ok && m.Alias == alias
}

// fits tells whether a device is what v says. One of that very kind, name and
// MAC counts as ours although a crash left it without its alias.
func (v VirtualMAC) fits(link netlink.Link, parent int) bool {
	m, ok := link.(*netlink.Macvlan)
	return ok && m.Mode == netlink.MACVLAN_MODE_PRIVATE && m.ParentIndex == parent && bytes.Equal(m.HardwareAddr, v.MAC)
}

// make creates the device, down, or adopts the one that is there. What is in the
// way and ours goes; what is not ours stays, and is an error. A parent that is
// missing is one too (see missing).
func (v VirtualMAC) make(nl *netlink.Handle) (netlink.Link, error) {
	parent, err := nl.LinkByName(v.Parent)
	if err != nil {
		return nil, err
	}
	link, err := nl.LinkByName(v.Name)
	switch {
	case err == nil && v.fits(link, parent.Attrs().Index):
		if isOurs(link) {
			return link, nil
		}
		if err := nl.LinkSetAlias(link, alias); err != nil {
			return nil, fmt.Errorf("mark %s as ours: %w", v.Name, err)
		}
		return nl.LinkByName(v.Name)
	case err == nil && !isOurs(link):
		return nil, fmt.Errorf("make %s for the virtual MAC on %s: another device has that name, rename it", v.Name, v.Parent)
	case err == nil:
		if err := nl.LinkDel(link); err != nil && !missing(err) {
			return nil, fmt.Errorf("remove %s, which does not fit any more: %w", v.Name, err)
		}
	case !missing(err):
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = v.Name, parent.Attrs().Index, v.MAC
	if err := nl.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE}); err != nil {
		return nil, fmt.Errorf("make the macvlan %s on %s (without it: virtual_mac: false): %w", v.Name, v.Parent, err)
	}
	if link, err = nl.LinkByName(v.Name); err != nil {
		return nil, err
	}
	if err := nl.LinkSetAlias(link, alias); err != nil {
		return nil, fmt.Errorf("mark %s as ours: %w", v.Name, err)
	}
	if err := v.prepare(); err != nil {
		return nil, err
	}
	return nl.LinkByName(v.Name)
}

// prepare keeps the device from answering for what is not its own before it is
// up for the first time; the plan's sysctls, which are the same, come later.
// It never has an IPv6 address made of its MAC, which would be the same on all
// nodes (keepalived and FRR had two masters for that).
func (v VirtualMAC) prepare() error {
	settings := [][2]string{
		{"ipv4/conf/" + v.Name + "/arp_ignore", "1"}, // only what is on this device
		{"ipv4/conf/" + v.Name + "/arp_announce", "2"},
		{"ipv4/conf/" + v.Name + "/rp_filter", "0"}, // answers may leave by the parent
		{"ipv4/conf/" + v.Name + "/promote_secondaries", "1"},
		{"ipv4/conf/" + v.Name + "/send_redirects", "0"},
		{"ipv4/conf/" + v.Name + "/forwarding", "1"},
		{"ipv6/conf/" + v.Name + "/disable_ipv6", "1"}, // until it holds addresses of that family
	}
	if isSix(v.MAC) {
		settings = append(settings, [][2]string{
			{"ipv6/conf/" + v.Name + "/addr_gen_mode", "1"}, // none
			{"ipv6/conf/" + v.Name + "/accept_ra", "0"},
			{"ipv6/conf/" + v.Name + "/autoconf", "0"},
		}...)
	}
	for _, kv := range settings {
		err := os.WriteFile("/proc/sys/net/"+kv[0], []byte(kv[1]), 0)
		if err != nil && (isSix(v.MAC) || !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(kv[0], "ipv6")) {
			return fmt.Errorf("set up %s: %w", v.Name, err)
		}
	}
	return nil
}

// up tells whether a device is switched on, by whomever.
func up(link netlink.Link) bool { return link.Attrs().RawFlags&unix.IFF_UP != 0 }

// hushAfter is when that follows: what was under way has come by then.
const hushAfter = 200 * time.Millisecond

// speak6 switches IPv6 on or off on a device of ours that is for it; off takes
// its addresses away.
func speak6(link netlink.Link, on bool) error {
	if !isOurs(link) || !isSix(link.Attrs().HardwareAddr) {
		return nil
	}
	name, want := "/proc/sys/net/ipv6/conf/"+link.Attrs().Name+"/disable_ipv6", "1"
	if on {
		want = "0"
	}
	if now, err := os.ReadFile(name); err == nil && string(bytes.TrimSpace(now)) == want {
		return nil
	}
	if err := os.WriteFile(name, []byte(want), 0); err != nil && (on || !errors.Is(err, os.ErrNotExist)) {
		return fmt.Errorf("switch IPv6 on %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// mute switches ARP off on a device of ours, which makes the kernel forget its
// neighbours.
func mute(nl *netlink.Handle, link netlink.Link) error {
	if !isOurs(link) || link.Attrs().RawFlags&unix.IFF_NOARP != 0 {
		return nil
	}
	if err := nl.LinkSetARPOff(link); err != nil && !missing(err) {
		return fmt.Errorf("switch ARP off on %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// hush switches a device of ours off: no frame to or from its MAC passes here.
func hush(nl *netlink.Handle, link netlink.Link) error {
	if !isOurs(link) || !up(link) {
		return nil
	}
	if err := nl.LinkSetDown(link); err != nil && !missing(err) {
		return fmt.Errorf("switch %s off: %w", link.Attrs().Name, err)
	}
	return nil
}

// macvlans are all devices of ours.
func macvlans(nl *netlink.Handle) ([]netlink.Link, error) {
	links, err := nl.LinkList()
	for try := 0; try < 3 && errors.Is(err, netlink.ErrDumpInterrupted); try++ {
		links, err = nl.LinkList()
	}
	if err != nil {
		return nil, fmt.Errorf("read the devices: %w", err)
	}
	var out []netlink.Link
	for _, l := range links {
		if isOurs(l) {
			out = append(out, l)
		}
	}
	return out, nil
}

// removeMacvlans takes away the devices of ours but those that are kept.
func removeMacvlans(nl *netlink.Handle, keep func(name string) bool) error {
	links, err := macvlans(nl)
	if err != nil {
		return err
	}
	var failed error
	for _, l := range links {
		if keep(l.Attrs().Name) {
			continue
		}
		if err := nl.LinkDel(l); err != nil && !missing(err) {
			failed = errors.Join(failed, fmt.Errorf("remove %s: %w", l.Attrs().Name, err))
		}
	}
	return failed
}
