package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// carries returns an error, in words for a person, when the device is not one
// that could carry a probe now. It is asked before each round: of netlink that
// would be twenty times the work.
func carries(name string) error {
	var flags int16
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		var fd int
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
			err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr)
			flags = int16(ifr.Uint16())
			_ = unix.Close(fd) // nothing was written
		}
	}
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%s does not exist", name)
	case err != nil:
		return fmt.Errorf("look at %s: %w", name, err)
	case flags&unix.IFF_UP == 0:
		return fmt.Errorf("%s is switched off", name)
	case flags&unix.IFF_RUNNING == 0:
		return fmt.Errorf("%s has no carrier", name)
	}
	return nil
}

// device is what the kernel says about an uplink's device at the moment.
type device struct {
	link netlink.Link
}

func lookDevice(name string) (device, error) {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		return device{}, fmt.Errorf("%s does not exist", name)
	case err != nil:
		return device{}, fmt.Errorf("look at %s: %w", name, err)
	}
	return device{link}, nil
}

func (d device) index() int           { return d.link.Attrs().Index }
func (d device) hw() net.HardwareAddr { return d.link.Attrs().HardwareAddr }
func (d device) speaksARP() bool {
	return d.link.Attrs().RawFlags&unix.IFF_NOARP == 0 && len(d.hw()) == 6
}

// sender chooses the sender address of an ARP request for a neighbour: own if
// the device holds it right now in the neighbour's network, else 0.0.0.0 (the
// form of RFC 5227). Right now, because a request with a virtual address that
// was just given to the other node would take its traffic back.
func (d device) sender(own, neighbour netip.Addr) netip.Addr {
	if !own.Is4() {
		return netip.IPv4Unspecified()
	}
	// An error only means that nothing is sure.
	addrs, _ := netlink.AddrList(d.link, netlink.FAMILY_V4)
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && addr.Unmap() == own && a.Contains(neighbour.AsSlice()) {
			return own
		}
	}
	return netip.IPv4Unspecified()
}
