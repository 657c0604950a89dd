package guard

import (
	"context"
	"log/slog"
	"net/netip"
)

// Ports are the edges as the guard uses them. Whatever they need (netlink
// handle, sockets) is opened before Run: a fence has no time for it.
type Ports struct {
	// Remove takes the addresses away. One that is not there, or whose device
	// is not, is no error. An error makes the guard try again. It is called
	// from one goroutine; at start once with nothing, as a rehearsal.
	Remove func([]Address) error
	// Send sends the frames. It is called from one goroutine, another one than
	// Remove's; at start once with nothing.
	Send func([]Frame) error
	// Tell, if set, sends the words, in Send's goroutine. It never waits.
	Tell func([]Word) error
	// Open, if set, makes ready for a later Send of these frames. It is called
	// after each State, in Send's goroutine, so it must be idempotent and quick.
	Open func([]Frame) error
	// Listen hands over what it hears of protocol 112, multicast on the devices
	// and unicast to local, until ctx ends. A device may be missing, vanish and
	// come back. If it returns earlier it is called again.
	Listen func(ctx context.Context, devices []string, local netip.Addr, recv func(Heard)) error
	Log    *slog.Logger
}

func (p Ports) tell(words []Word) error {
	if p.Tell == nil {
		return nil
	}
	return p.Tell(words)
}
