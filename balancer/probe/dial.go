package probe

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialer opens sockets that can leave by one uplink only: they are bound to the
// node's own address there before they have a destination, and the mark leads
// them to the uplink's table, which ends in an unreachable default.
type dialer struct {
	source netip.Addr
	mark   uint32
}

func (d dialer) net() *net.Dialer {
	return &net.Dialer{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(d.mark))
		}); cerr != nil {
			return cerr
		}
		return os.NewSyscallError("set SO_MARK", err)
	}}
}

func (d dialer) local() netip.AddrPort { return netip.AddrPortFrom(d.source, 0) }

// tcp connects. The connection ends with a reset, so that neither end nor a
// firewall between keeps a TIME_WAIT for each round.
func (d dialer) tcp(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	conn, err := d.net().DialTCP(ctx, "tcp", d.local(), to)
	if err != nil {
		return nil, err
	}
	if err := conn.SetLinger(0); err != nil {
		_ = conn.Close() // nothing was sent
		return nil, err
	}
	return conn, nil
}

func (d dialer) udp(ctx context.Context, to netip.AddrPort) (*net.UDPConn, error) {
	return d.net().DialUDP(ctx, "udp", d.local(), to)
}

// interrupt ends what blocks on the connection when ctx ends; the caller calls
// done when it does not read any more.
func interrupt(ctx context.Context, conn net.Conn) (done func() bool) {
	return context.AfterFunc(ctx, func() {
		// An error means that it is closed already.
		_ = conn.SetDeadline(time.Unix(1, 0))
	})
}
