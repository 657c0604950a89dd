package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"time"

	probing "github.com/prometheus-community/pro-bing"
)

// ping sends one echo request from source to target with the mark set and
// waits for the answer until ctx ends. answered is called with the round trip
// the moment the answer is there, which is up to a tenth of a second before
// ping returns. An error says why there can be no answer; it is nil when there
// was one and when ctx ended first.
func ping(ctx context.Context, source, target netip.Addr, mark uint32, answered func(time.Duration)) error {
	p := probing.New("")
	p.SetIPAddr(&net.IPAddr{IP: target.AsSlice(), Zone: target.Zone()})
	p.SetPrivileged(true)
	p.SetMark(uint(mark))
	p.Source = source.String()
	p.Count = 1
	p.Interval = math.MaxInt64
	p.RecordRtts, p.RecordTTLs = false, false

	var began time.Time
	var sendErr error
	var done bool
	p.OnSetup = func() { began = time.Now() }
	p.OnSendError = func(_ *probing.Packet, err error) { sendErr = err }
	p.OnRecv = func(pkt *probing.Packet) {
		// The library takes the difference of two wall clock times; what the
		// monotonic clock says bounds it.
		rtt := time.Since(began)
		if pkt.Rtt > 0 && pkt.Rtt < rtt {
			rtt = pkt.Rtt
		}
		done = true
		answered(rtt)
	}
	spin := &spinGuard{}
	p.SetLogger(spin)

	err := p.RunWithContext(ctx)
	switch {
	case done || ctx.Err() != nil:
		return nil
	case spin.caught:
		err = syscall.EACCES
	case sendErr != nil:
		err = sendErr
	case err == nil:
		err = errors.New("the socket was closed")
	}
	// What net puts around it repeats the addresses.
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return fmt.Errorf("%v from %v: %w", target, source, err)
}

// spinGuard is the pinger's logger, and its way out of a loop without end: it
// takes EACCES from sendto for a missing broadcast flag, sets that and tries
// again, for ever where the true cause is a `prohibit` route. It says so each
// time; the second time its goroutine ends here.
type spinGuard struct {
	probing.NoopLogger
	said   int
	caught bool
}

func (g *spinGuard) Infof(string, ...any) {
	if g.said++; g.said > 1 {
		g.caught = true
		runtime.Goexit()
	}
}
