package probe

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"time"
)

// connect connects to the target and hangs up. The time is that of the
// handshake, or of the refusal.
func connect(ctx context.Context, d dialer, t Target) (time.Duration, error) {
	began := time.Now()
	conn, err := d.tcp(ctx, netip.AddrPortFrom(t.Address, t.port()))
	rtt := time.Since(began)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return rtt, nil
	case err != nil:
		return 0, err
	}
	_ = conn.Close() // nothing was sent that could get lost
	return rtt, nil
}
