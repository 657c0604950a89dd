package peer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// counter is a Handler that does as little as possible.
type counter struct {
	frames atomic.Int64
	up     atomic.Bool
	at     func(frame []byte)
}

func (c *counter) Up(string, netip.AddrPort) { c.up.Store(true) }
func (*counter) Down(string, Reason, error)  {}
func (*counter) Overflow(string)             {}
func (c *counter) Frame(_ string, frame []byte, _ bool) {
	c.frames.Add(1)
	if c.at != nil {
		c.at(frame)
	}
}

// loopback is two nodes with a session, over the kernel's loopback.
func loopback(b *testing.B) (from, to *counter, r1 *node) {
	b.Helper()
	all := cluster(map[string][]string{"r1": {"127.0.71.1:17947"}, "r2": {"127.0.71.2:17947"}})
	from, to = &counter{}, &counter{}
	c1, c2 := all["r1"], all["r2"]
	c1.Handler, c2.Handler = from, to
	prepare(b, c2).run(b)
	r1 = prepare(b, c1).run(b)
	await(b, "up", func() bool { return from.up.Load() && to.up.Load() })
	return from, to, r1
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRate: 100 B frames, one by one, at a steady rate; the CPU time is of
// both sides together, kernel included, without that of the clock that paces.
func BenchmarkRate(b *testing.B) {
	for _, rate := range []int{5_000, 100_000} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			_, to, r1 := loopback(b)
			p, err := newPacer()
			if err != nil {
				b.Fatal(err)
			}
			defer p.f.Close()
			frame := make([]byte, 100)
			// 5,000 a second are one each 200 µs; 100,000 are 20.
			each := max(1, rate/5000)
			run := func(send bool) (used time.Duration, sent int) {
				begin, start := time.Now(), cpu()
				for next := begin; time.Since(begin) < time.Second; next = next.Add(200 * time.Microsecond) {
					if d := time.Until(next); d > 0 {
						p.pause(d)
					}
					for range each {
						if send && r1.Send("r2", frame) {
							sent++
						}
					}
				}
				if err := barrier(r1, "r2"); err != nil {
					b.Fatal(err)
				}
				return cpu() - start, sent
			}
			var used, idle time.Duration
			var sent int
			for b.Loop() {
				i, _ := run(false)
				u, s := run(true)
				used, idle, sent = used+u, idle+i, sent+s
			}
			b.ReportMetric(float64((used-idle).Microseconds())/float64(sent), "cpu-µs/frame")
			b.ReportMetric(float64(sent)/float64(b.N), "frames/s")
			b.ReportMetric(0, "ns/op")
			if int(to.frames.Load()) != sent {
				b.Errorf("%d of %d frames came", to.frames.Load(), sent)
			}
		})
	}
}

// BenchmarkIdle: what heartbeats take, both sides together.
func BenchmarkIdle(b *testing.B) {
	loopback(b)
	var used time.Duration
	for b.Loop() {
		start := cpu()
		<-time.After(2 * time.Second)
		used += (cpu() - start) / 2
	}
	b.ReportMetric(float64(used.Microseconds())/float64(b.N)/10_000, "%-of-a-core")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkThroughput: as much as goes.
func BenchmarkThroughput(b *testing.B) {
	for _, size := range []int{100, 1400} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			_, _, r1 := loopback(b)
			frame := make([]byte, size)
			b.SetBytes(int64(size))
			start := cpu()
			n := 0
			for b.Loop() {
				if !r1.Send("r2", frame) {
					b.Fatal("the queue is full")
				}
				if n++; n*size%(DefaultQueue/4) < size {
					if err := barrier(r1, "r2"); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64((cpu()-start).Nanoseconds())/1000/float64(b.N), "cpu-µs/frame")
		})
	}
}

// BenchmarkLatency: a single frame, from Send to the other side's Handler, and
// a barrier.
func BenchmarkLatency(b *testing.B) {
	_, to, r1 := loopback(b)
	came := make(chan time.Time, 1)
	to.at = func([]byte) { came <- time.Now() }
	var frames, barriers []time.Duration
	for b.Loop() {
		<-time.After(time.Millisecond) // idle before
		begin := time.Now()
		r1.Send("r2", []byte("x"))
		frames = append(frames, (<-came).Sub(begin))
		<-time.After(time.Millisecond)
		begin = time.Now()
		if err := r1.Barrier(context.Background(), "r2"); err != nil {
			b.Fatal(err)
		}
		barriers = append(barriers, time.Since(begin))
	}
	for name, all := range map[string][]time.Duration{"frame": frames, "barrier": barriers} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), name+"-p50-µs")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), name+"-p99-µs")
	}
	b.ReportMetric(0, "ns/op")
}
