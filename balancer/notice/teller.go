package notice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// Most is how many connections of one occasion are worth a notice; there is
// room for that of a few at a time. The other hosts learn it when they send.
const Most = 1 << 16

const (
	occasions = 16
	each      = 10 * time.Millisecond // so many segments, a hundred times a second
	segments  = 100
	// room is how much may wait for hosts whose MAC address is asked for.
	room = 4 << 20 // bytes
)

// Teller is a Task.
type Teller struct {
	log  *slog.Logger
	tell chan []balancer.Ends
}

// New returns a teller that Run starts.
func New(log *slog.Logger) *Teller {
	return &Teller{log: log, tell: make(chan []balancer.Ends, occasions)}
}

func (t *Teller) String() string { return "notice" }

// Tell has the hosts of these connections notice that they are gone, at 10,000
// of them a second. It does not block; what is too much is left out, as are
// connections of IPv6. The list is not to be changed any more.
func (t *Teller) Tell(ended []balancer.Ends) {
	if len(ended) == 0 {
		return
	}
	select {
	case t.tell <- ended[:min(len(ended), Most)]:
	default:
		t.log.Warn("hosts are not told that connections of theirs were ended: too many at a time", "connections", len(ended))
	}
}

// Run tells until ctx ends.
func (t *Teller) Run(ctx context.Context) error {
	for {
		select {
		case ended := <-t.tell:
			if err := send(ctx, ended); err != nil && ctx.Err() == nil {
				t.log.Warn("not all hosts are told that connections of theirs were ended", "connections", len(ended), "error", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// send returns the first error that is one; the others are sent to all the same.
func send(ctx context.Context, ended []balancer.Ends) (first error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("open a raw socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // nothing is written late
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, balancer.NoticeMark); err != nil {
		return fmt.Errorf("set the priority of a raw socket: %w", err) // without, the rules would not know what it is
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, room) // what it is makes do
	tick := time.NewTicker(each)
	defer tick.Stop()
	for i, e := range ended {
		if i%segments == segments-1 {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if !e.Host.Addr().Is4() || !e.Peer.Addr().Is4() {
			continue
		}
		b := segment(e, rand.Uint32(), rand.Uint32())
		err := unix.Sendto(fd, b[:], unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: e.Host.Addr().As4()})
		// EPERM: the rules drop it, it is of no host of a lan. EAGAIN: hosts that
		// are switched off have taken the room.
		if err != nil && first == nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EAGAIN) {
			first = fmt.Errorf("send to %v: %w", e.Host, err)
		}
	}
	return first
}
