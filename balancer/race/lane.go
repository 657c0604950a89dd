package race

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// lane is an uplink as a race sees it. The mark leads to the uplink's table, which
// ends in an unreachable default.
type lane struct {
	uplink string
	mark   uint32
	source netip.Addr
}

// connect connects and hangs up. A refusal is no answer: whoever stands before the
// destination may refuse too.
func connect(ctx context.Context, l lane, to netip.AddrPort) error {
	d := net.Dialer{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(l.mark))
		}); cerr != nil {
			return cerr
		}
		return os.NewSyscallError("set SO_MARK", err)
	}}
	conn, err := d.DialTCP(ctx, "tcp4", netip.AddrPortFrom(l.source, 0), to)
	if err != nil {
		return fmt.Errorf("connect to %v by %s: %w", to, l.uplink, err)
	}
	_ = conn.SetLinger(0) // without it, it ends in order
	_ = conn.Close()      // nothing was sent that could get lost
	return nil
}
