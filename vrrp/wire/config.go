package wire

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"harouter/vrrp"
)

// Link is a lan, or an uplink with a virtual MAC, that carries adverts.
type Link struct {
	Name, Device string
	Uplink       bool // not a lan
	// Addresses are the virtual ones, listed in the adverts sent there; none: the
	// sender's own. Each family has adverts of its own; IPv6 needs a link-local
	// one (RFC 9568 §5.2.9), which is listed first.
	Addresses []netip.Addr
	VRID      uint8 // zero: Config.VRID
	// MACDevice, if set, is the device that has the virtual MAC while this node
	// is master. Adverts carry that MAC then (RFC 9568 §7.3), whether it is up or
	// not, and are listened for there too: what comes with a MAC of its own the
	// kernel shows to that device alone.
	MACDevice string
	// MACDevice6 is the like for IPv6, which has another virtual MAC.
	MACDevice6 string
}

// Config says where adverts go and come from.
type Config struct {
	VRID             uint8        // of unicast adverts, and of links that have no other
	Version          vrrp.Version // zero: 3
	Checksum         vrrp.Checksum
	Password         string        // of version 2, sent and asked for; "" none
	Interval         time.Duration // A, told in farewells
	Links            []Link
	Local            netip.Addr    // own node address: unicast adverts go from and come to it
	Peers            []netip.Addr  // the other nodes' addresses
	UnicastAddresses []netip.Addr  // listed in unicast adverts; none: Local
	UnicastOnly      bool          // nothing is sent to or taken from the group
	Lease            time.Duration // the sender goes silent this long after the last Renew
	Virtual          []netip.Addr  // never a source address
	Receive          func(Received)
	Log              *slog.Logger
}

// check fills in what is not set and says what cannot be.
func (c *Config) check() error {
	if c.Version == 0 {
		c.Version = vrrp.Version3
	}
	if c.VRID == 0 {
		return errors.New("set up VRRP: virtual router id 0")
	}
	if err := vrrp.CheckInterval(c.Version, c.Interval); err != nil {
		return fmt.Errorf("set up VRRP: %w", err)
	}
	if err := vrrp.CheckPassword(c.Version, c.Password); err != nil {
		return fmt.Errorf("set up VRRP: %w", err)
	}
	if c.Lease <= 0 {
		return fmt.Errorf("set up VRRP: lease %v", c.Lease)
	}
	// What no advert can list would otherwise show when it is needed first.
	for _, p := range c.paths() {
		msg, err := c.advert(0, c.Interval, p, p.dst).Append(nil, p.dst, p.dst, c.Checksum)
		if err == nil && p.mac != nil && len(msg) > maxFramed {
			err = fmt.Errorf("%d addresses do not fit into one frame, and with virtual_mac there is one only", len(p.listed))
		}
		if err != nil {
			return fmt.Errorf("set up VRRP for %s: %w", p.name, err)
		}
	}
	return nil
}

// paths are the ways out, none of them open.
func (c *Config) paths() []*path {
	var out []*path
	if !c.UnicastOnly {
		for _, l := range c.Links {
			four, six := families(l.Addresses)
			if len(four) > 0 || len(six) == 0 {
				out = append(out, c.linkPath("", l, vrrp.Group4, four))
			}
			if len(six) > 0 {
				out = append(out, c.linkPath(" over IPv6", l, vrrp.Group6, six))
			}
		}
	}
	listed := c.unicastListed()
	for _, p := range c.Peers {
		if c.Local.BitLen() == p.BitLen() {
			out = append(out, newPath("peer "+p.String(), "", p, c.VRID, listed))
		}
	}
	return out
}

// unicastListed are the addresses in unicast adverts. Over IPv6 a link-local one
// stands first (RFC 9568 §5.2.9), which no sender can make of its own.
func (c *Config) unicastListed() []netip.Addr {
	four, six := families(c.UnicastAddresses)
	switch {
	case c.Local.Is4():
		return four
	case len(six) == 0 || !six[0].IsLinkLocalUnicast():
		six = slices.Insert(six, 0, vrrp.LinkLocal(c.VRID))
	}
	return six[:min(len(six), vrrp.MaxAddresses)]
}

// linkPath is the way to a group on a link.
func (c *Config) linkPath(how string, l Link, group netip.Addr, listed []netip.Addr) *path {
	word := "lan "
	if l.Uplink {
		word = "uplink "
	}
	p := newPath(word+l.Name+how, l.Device, group, c.vrid(l), listed)
	if l.macDevice(group.Is6()) != "" {
		mac := vrrp.VirtualMAC(p.vrid, group.Is6())
		p.mac = mac[:]
	}
	return p
}

func (l Link) macDevice(six bool) string {
	if six {
		return l.MACDevice6
	}
	return l.MACDevice
}

// families parts a list; of IPv6 the link-local addresses come first.
func families(all []netip.Addr) (four, six []netip.Addr) {
	var global []netip.Addr
	for _, a := range all {
		switch {
		case a.Is6() && a.IsLinkLocalUnicast():
			six = append(six, a)
		case a.Is6():
			global = append(global, a)
		default:
			four = append(four, a)
		}
	}
	return four, append(six, global...)
}

// vrid is that of a link.
func (c *Config) vrid(l Link) uint8 { return cmp.Or(l.VRID, c.VRID) }

// places are where to listen.
func (c *Config) places() []place {
	var out []place
	if !c.UnicastOnly {
		for _, l := range c.Links {
			four, six := families(l.Addresses)
			if len(four) > 0 || len(six) == 0 {
				out = append(out, place{link: l.Name, device: l.Device})
				if l.MACDevice != "" {
					out = append(out, place{link: l.Name, device: l.MACDevice, tap: true})
				}
			}
			if len(six) > 0 {
				out = append(out, place{link: l.Name, device: l.Device, six: true})
				if l.MACDevice6 != "" {
					out = append(out, place{link: l.Name, device: l.MACDevice6, tap: true, six: true})
				}
			}
		}
	}
	if c.Local.IsValid() {
		out = append(out, place{local: c.Local, six: c.Local.Is6()})
	}
	return out
}

// advert is what is told on a path, from src.
func (c *Config) advert(priority uint8, interval time.Duration, p *path, src netip.Addr) vrrp.Advert {
	listed := p.listed
	if len(listed) == 0 {
		listed = []netip.Addr{src}
	}
	return vrrp.Advert{Version: c.Version, VRID: p.vrid, Priority: priority, Interval: interval, Addresses: listed, Password: c.Password}
}

// terms are what this configuration takes; own addresses are those of this node.
func (c *Config) terms(own map[netip.Addr]bool) *terms {
	t := &terms{
		vrid: c.VRID, links: map[string]uint8{}, own: own,
		advert: vrrp.Terms{Version: c.Version, Interval: c.Interval, Password: c.Password},
	}
	for _, l := range c.Links {
		t.links[l.Name] = c.vrid(l)
	}
	return t
}
