package netlab

import (
	"context"
	"net"
	"sync"
	"time"
)

// freshRun opens new connections, one after the other or several at a time
// when they hang.
type freshRun struct {
	fresh Fresh
	quit  chan struct{}
	all   sync.WaitGroup

	mu       sync.Mutex
	attempts []Attempt
}

func newFreshRun(f Fresh) *freshRun {
	if f.Timeout == 0 {
		f.Timeout = 900 * time.Millisecond // the second SYN goes after 1 s
	}
	f.Interval = max(f.Interval, 100*time.Microsecond)
	return &freshRun{fresh: f, quit: make(chan struct{})}
}

func (r *freshRun) run() {
	defer r.all.Done()
	tick := time.NewTicker(r.fresh.Interval)
	defer tick.Stop()
	for n := 0; r.fresh.Count == 0 || n < r.fresh.Count; n++ {
		r.all.Add(1)
		go func() {
			defer r.all.Done()
			a := r.attempt()
			r.mu.Lock()
			defer r.mu.Unlock()
			r.attempts = append(r.attempts, a)
		}()
		select {
		case <-r.quit:
			return
		case <-tick.C:
		}
	}
}

func (r *freshRun) attempt() (a Attempt) {
	a = Attempt{Start: Now(), Server: r.fresh.Server}
	defer func() { a.Took = Now().Sub(a.Start) }()
	ctx, cancel := context.WithTimeout(context.Background(), r.fresh.Timeout)
	defer cancel()
	d := net.Dialer{KeepAlive: -1}
	conn, err := d.DialContext(ctx, "tcp", r.fresh.Server.String())
	if err != nil {
		a.Err = err.Error()
		return a
	}
	defer conn.Close()
	a.Connect = Now().Sub(a.Start)
	// Thousands of these in TIME_WAIT would be a load of their own.
	_ = conn.(*net.TCPConn).SetLinger(0)
	deadline, _ := ctx.Deadline()
	_ = conn.SetReadDeadline(deadline)
	if a.Seen, err = readGreeting(conn); err != nil {
		a.Err = err.Error()
		return a
	}
	a.OK = true
	return a
}

func (r *freshRun) count() (ok, failed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.attempts {
		if a.OK {
			ok++
		} else {
			failed++
		}
	}
	return ok, failed
}

func (r *freshRun) stop() []Attempt {
	close(r.quit)
	r.all.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempts
}
