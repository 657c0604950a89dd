package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// The ports of the sink; several, so that source ports do not run out.
const (
	sinkPort  = 9000
	sinkPorts = 8
)

// sinkRole accepts connections on addresses and closes them.
func sinkRole(ctx context.Context, args []string) error {
	var all sync.WaitGroup
	for _, a := range args {
		for i := range sinkPorts {
			l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", a, sinkPort+i))
			if err != nil {
				return err
			}
			defer context.AfterFunc(ctx, func() { l.Close() })()
			all.Go(func() {
				for {
					conn, err := l.Accept()
					if errors.Is(err, net.ErrClosed) {
						return
					}
					if err == nil {
						conn.Close()
					}
				}
			})
		}
	}
	all.Wait()
	return nil
}

// hammerRole opens connections as fast as it can and resets them. Its arguments
// are a file for the rate and how many worked and failed, how long, and the sink's addresses.
func hammerRole(ctx context.Context, args []string) error {
	if len(args) < 3 {
		return errors.New("want a file, a time and addresses")
	}
	long, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	addresses := args[2:]
	var made, failed atomic.Int64
	var all sync.WaitGroup
	begin := time.Now()
	for worker := range 16 {
		all.Go(func() {
			// No deadline in the context: at its end dials fail for some
			// milliseconds before the context says that it is over.
			d := net.Dialer{Timeout: time.Second, KeepAlive: -1}
			for i := worker; time.Since(begin) < long && ctx.Err() == nil; i++ {
				to := fmt.Sprintf("%s:%d", addresses[i%len(addresses)], sinkPort+i/len(addresses)%sinkPorts)
				conn, err := d.DialContext(ctx, "tcp", to)
				if err != nil {
					failed.Add(1)
					continue
				}
				_ = conn.(*net.TCPConn).SetLinger(0) // gone at once, no TIME_WAIT
				conn.Close()
				made.Add(1)
			}
		})
	}
	all.Wait()
	rate := float64(made.Load()) / time.Since(begin).Seconds()
	return os.WriteFile(args[0], fmt.Appendf(nil, "%g %d %d\n", rate, made.Load(), failed.Load()), 0o644)
}
