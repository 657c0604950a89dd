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

// The ports of the sink; several, so that source ports do not run out. On those
// from keepPort on it leaves it to the client to end a connection.
const (
	sinkPort  = 9000
	keepPort  = 9100
	sinkPorts = 8
)

// keepTime is how long the client keeps connections that are not to end at once.
const keepTime = 50 * time.Millisecond

// sinkRole accepts connections on addresses and closes them.
func sinkRole(ctx context.Context, args []string) error {
	var all sync.WaitGroup
	for _, a := range args {
		for i := range 2 * sinkPorts {
			keep, port := i >= sinkPorts, sinkPort+i
			if keep {
				port = keepPort + i - sinkPorts
			}
			l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", a, port))
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
					switch {
					case err != nil:
					case keep:
						time.AfterFunc(4*keepTime, func() { conn.Close() })
					default:
						conn.Close()
					}
				}
			})
		}
	}
	all.Wait()
	return nil
}

// hammerRole opens connections as fast as it can and resets each after a while.
// Its arguments are a file for the rate and how many worked and failed, how long
// in all, how long each (0 or keepTime), and the sink's addresses.
func hammerRole(ctx context.Context, args []string) error {
	if len(args) < 4 {
		return errors.New("want a file, two times and addresses")
	}
	long, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	keep, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	addresses, port := args[3:], sinkPort
	if keep > 0 {
		port = keepPort
	}
	var made, failed atomic.Int64
	var all, kept sync.WaitGroup
	begin := time.Now()
	for worker := range 16 {
		all.Go(func() {
			// No deadline in the context: at its end dials fail for some
			// milliseconds before the context says that it is over.
			d := net.Dialer{Timeout: time.Second, KeepAlive: -1}
			for i := worker; time.Since(begin) < long && ctx.Err() == nil; i++ {
				to := fmt.Sprintf("%s:%d", addresses[i%len(addresses)], port+i/len(addresses)%sinkPorts)
				conn, err := d.DialContext(ctx, "tcp", to)
				if err != nil {
					failed.Add(1)
					continue
				}
				_ = conn.(*net.TCPConn).SetLinger(0) // gone at once, no TIME_WAIT
				if keep > 0 {
					kept.Add(1)
					time.AfterFunc(keep, func() { conn.Close(); kept.Done() })
				} else {
					conn.Close()
				}
				made.Add(1)
			}
		})
	}
	all.Wait()
	rate := float64(made.Load()) / time.Since(begin).Seconds()
	kept.Wait()
	return os.WriteFile(args[0], fmt.Appendf(nil, "%g %d %d\n", rate, made.Load(), failed.Load()), 0o644)
}
