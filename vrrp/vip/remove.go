package vip

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// remove takes addresses away; what is not there, or whose device is not, is
// fine. Devices are looked up once each. All: nothing stays on them, and those
// with a virtual MAC fall silent.
func remove(nl *netlink.Handle, as []Address, all bool) error {
	var failed error
	links := map[string]netlink.Link{}
	for _, a := range as {
		link, ok := links[a.Device]
		if !ok {
			var err error
			if link, err = nl.LinkByName(a.Device); err != nil {
				link = nil
				if !missing(err) {
					failed = errors.Join(failed, fmt.Errorf("remove %v: %w", a, err))
				}
			}
			if link != nil && all {
				failed = errors.Join(failed, speak6(link, false))
			}
			links[a.Device] = link
		}
		if link == nil {
			continue
		}
		if err := take(nl, link, a.Prefix); err != nil {
			failed = errors.Join(failed, fmt.Errorf("remove %v: %w", a, err))
		}
	}
	for _, link := range links {
		if link != nil && all {
			failed = errors.Join(failed, mute(nl, link))
		}
	}
	return failed
}

// Remover removes addresses through sockets that are opened beforehand, for
// the guard.
type Remover struct {
	nl      *netlink.Handle
	slow    *netlink.Handle // for what may wait
	hushing sync.WaitGroup
}

// NewRemover opens the sockets.
func NewRemover() (*Remover, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	slow, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		nl.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &Remover{nl: nl, slow: slow}, nil
}

// Remove takes the addresses away; it may be repeated. What is gone already is
// no error, what could not be removed is told after all have been tried. Devices
// with a virtual MAC, from which nothing leaves then, are switched off after that;
// Close waits for it.
func (r *Remover) Remove(as []Address) error {
	err := remove(r.nl, as, true)
	r.hushing.Go(func() {
		time.Sleep(hushAfter)
		links, err := macvlans(r.slow)
		if err != nil {
			return // silent they are
		}
		for _, l := range links {
			if slices.ContainsFunc(as, func(a Address) bool { return a.Device == l.Attrs().Name }) {
				_ = hush(r.slow, l)
			}
		}
	})
	return err
}

// Sweep is for when no configuration tells what there is to remove: it takes
// away the devices that it makes, and the link-local addresses as it sets them, on whatever device.
// It returns those that may be virtual ones, which it leaves: that an address
// came without a route to its network makes it no more than likely.
func (r *Remover) Sweep() (doubtful []Address, err error) {
	if err := removeMacvlans(r.nl, func(string) bool { return false }); err != nil {
		return nil, err
	}
	addrs, err := list(r.nl)
	if err != nil {
		return nil, err
	}
	links, err := r.nl.LinkList()
	if err != nil {
		return nil, fmt.Errorf("read the devices: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var own []Address
	for _, have := range addrs {
		a := Address{Device: names[have.LinkIndex], Prefix: prefix(have)}
		switch {
		case a.Device == "":
		case a.Prefix.Addr().Is6():
			switch {
			case !asWePut6(have):
			case a.Prefix.Addr().IsLinkLocalUnicast() && a.Prefix.IsSingleIP():
				own = append(own, a)
			default:
				doubtful = append(doubtful, a)
			}
		case have.Flags&unix.IFA_F_NOPREFIXROUTE == 0, have.Flags&unix.IFA_F_PERMANENT == 0:
		case a.Prefix.Addr().IsLinkLocalUnicast():
			if a.Prefix.IsSingleIP() && have.Scope == int(netlink.SCOPE_LINK) {
				own = append(own, a)
			}
		case have.Scope == int(netlink.SCOPE_UNIVERSE):
			doubtful = append(doubtful, a)
		}
	}
	return doubtful, remove(r.nl, own, true)
}

// Close closes the sockets.
func (r *Remover) Close() {
	r.hushing.Wait()
	r.nl.Close()
	r.slow.Close()
}
