package vip

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// remove takes addresses away; what is not there, or whose device is not, is
// fine. Devices are looked up once each.
func remove(nl *netlink.Handle, as []Address) error {
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
			links[a.Device] = link
		}
		if link == nil {
			continue
		}
		if err := take(nl, link, a.Prefix); err != nil {
			failed = errors.Join(failed, fmt.Errorf("remove %v: %w", a, err))
		}
	}
	return failed
}

// Remover removes addresses through a socket that is opened beforehand, for
// the guard.
type Remover struct{ nl *netlink.Handle }

// NewRemover opens the socket.
func NewRemover() (*Remover, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &Remover{nl: nl}, nil
}

// Remove takes the addresses away; it may be repeated. What is gone already is
// no error, what could not be removed is told after all have been tried.
func (r *Remover) Remove(as []Address) error { return remove(r.nl, as) }

// Close closes the socket.
func (r *Remover) Close() { r.nl.Close() }
