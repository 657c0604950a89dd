package wire

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"harouter/vrrp"
)

// Link is a lan that carries adverts.
type Link struct {
	Name, Device string
	Addresses    []netip.Addr // virtual addresses, listed in the adverts sent there; none: the sender's own
}

// Config says where adverts go and come from.
type Config struct {
	VRID             uint8
	Version          vrrp.Version // zero: 3
	Checksum         vrrp.Checksum
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
	if c.Lease <= 0 {
		return fmt.Errorf("set up VRRP: lease %v", c.Lease)
	}
	// What no advert can list would otherwise show when it is needed first.
	for _, p := range c.paths() {
		if _, err := c.advert(0, c.Interval, p, p.dst).Append(nil, p.dst, p.dst, c.Checksum); err != nil {
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
			out = append(out, newPath("lan "+l.Name, l.Device, vrrp.Group4, l.Addresses))
		}
	}
	for _, p := range c.Peers {
		if c.Local.Is4() && p.Is4() {
			out = append(out, newPath("peer "+p.String(), "", p, c.UnicastAddresses))
		}
	}
	return out
}

// places are where to listen.
func (c *Config) places() []place {
	var out []place
	if !c.UnicastOnly {
		for _, l := range c.Links {
			out = append(out, place{link: l.Name, device: l.Device})
		}
	}
	if c.Local.Is4() {
		out = append(out, place{local: c.Local})
	}
	return out
}

// advert is what is told on a path, from src.
func (c *Config) advert(priority uint8, interval time.Duration, p *path, src netip.Addr) vrrp.Advert {
	listed := p.listed
	if len(listed) == 0 {
		listed = []netip.Addr{src}
	}
	return vrrp.Advert{Version: c.Version, VRID: c.VRID, Priority: priority, Interval: interval, Addresses: listed}
}
