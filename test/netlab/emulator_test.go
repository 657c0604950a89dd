package netlab

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

func TestLane(t *testing.T) {
	const msec = Instant(time.Millisecond)
	frame := make([]byte, 1000) // 8 ms at 1 Mbit/s
	for _, c := range []struct {
		name    string
		line    Line
		offered []Instant
		arrive  []Instant // 0: not taken
	}{
		{"perfect", Line{}, []Instant{5 * msec, 5 * msec}, []Instant{5 * msec, 5 * msec}},
		{"delay", Line{Delay: 20 * time.Millisecond}, []Instant{msec, 2 * msec}, []Instant{21 * msec, 22 * msec}},
		{"rate", Line{Rate: 1e6}, []Instant{msec, msec, 100 * msec}, []Instant{9 * msec, 17 * msec, 108 * msec}},
		{"rate and delay", Line{Rate: 1e6, Delay: time.Millisecond}, []Instant{msec, msec}, []Instant{10 * msec, 18 * msec}},
		{"full queue", Line{Rate: 1e6, Queue: 2000}, []Instant{msec, msec, msec, 9 * msec}, []Instant{9 * msec, 17 * msec, 0, 25 * msec}},
		{"all lost", Line{Loss: 1}, []Instant{msec}, []Instant{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := lane{line: c.line, rng: rand.New(rand.NewPCG(1, 2))}
			for i, at := range c.offered {
				taken := l.offer(at, frame) == fateSent
				if taken != (c.arrive[i] != 0) {
					t.Fatalf("frame %d: taken %t, want arrival %d", i, taken, c.arrive[i])
				}
			}
			for i, at := range c.arrive {
				if at == 0 {
					continue
				}
				if _, early := l.take(at - 1); early {
					t.Errorf("frame %d came before %d", i, at)
				}
				if _, ok := l.take(at); !ok {
					t.Errorf("frame %d did not come by %d", i, at)
				}
			}
			if _, more := l.next(); more {
				t.Error("frames left")
			}
		})
	}
}

func TestLaneKeepsOrderUnderJitterAndShare(t *testing.T) {
	l := lane{line: Line{Jitter: 10 * time.Millisecond, Loss: 0.3}, rng: rand.New(rand.NewPCG(1, 2))}
	sent := 0
	for i := range 10000 {
		if l.offer(Instant(i)*Instant(time.Millisecond), []byte{byte(sent)}) == fateSent {
			sent++
		}
	}
	if sent < 6800 || sent > 7200 {
		t.Errorf("%d of 10000 sent, want about 7000", sent)
	}
	for i := range sent {
		if b, ok := l.take(1 << 60); !ok || b[0] != byte(i) {
			t.Fatalf("frame %d: got %v", i, b)
		}
	}
}

func TestEmulator(t *testing.T) {
	s := plain(t)
	line := ok(s.Port("isp1", "wan0").Emulate(Line{}, Line{}))(t)
	must(t, WaitFor("the line to be there", 2*time.Second, func() bool { return pings(s.Host("h1"), server.String()) }))
	udp := []UDPFlows{{Server: netip.AddrPortFrom(server, EchoPort), Flows: 2, Interval: 2 * time.Millisecond}}

	// As seen from the ISP's port: in is what customers send.
	measure := func(out, in Line, d time.Duration) Flow {
		line.Set(Line{}, Line{})
		c := ok(s.Load("h1", Load{UDP: udp}))(t)
		line.Set(out, in)
		pass(d)
		return ok(c.Stop())(t).UDP[0]
	}
	f := measure(Line{}, Line{}, 300*time.Millisecond)
	median, _ := f.Delay()
	within(t, "delay of a perfect line", median, 0, 2*time.Millisecond)
	if f.Lost(0, 0) != 0 {
		t.Errorf("a perfect line lost %d", f.Lost(0, 0))
	}
	f = measure(Line{Delay: 30 * time.Millisecond}, Line{Delay: 20 * time.Millisecond}, 500*time.Millisecond)
	median, _ = f.Delay()
	within(t, "delay of 30+20 ms", median, 50*time.Millisecond, 53*time.Millisecond)
	f = measure(Line{Loss: 0.2}, Line{}, 800*time.Millisecond)
	if share := float64(f.Lost(0, 0)) / float64(len(f.Sent)); share < 0.12 || share > 0.28 {
		t.Errorf("lost %.2f, want about 0.20", share)
	}
	if float64(f.ServerGot) < 0.95*float64(len(f.Sent)) {
		t.Errorf("the server had %d of %d: lost the wrong way", f.ServerGot, len(f.Sent))
	}

	line.Set(Line{Rate: 20e6}, Line{Rate: 40e6})
	to := netip.AddrPortFrom(server, EchoPort)
	for _, c := range []struct {
		mode Mode
		rate float64
	}{{Upload, 40e6}, {Download, 20e6}} {
		load := ok(s.Load("h1", Load{TCP: []TCPFlows{{Server: to, Flows: 1, Mode: c.mode}}, Drain: 5 * time.Second}))(t)
		pass(500 * time.Millisecond) // buffers fill
		begin := Now()
		outBefore, inBefore := line.Stats()
		pass(700 * time.Millisecond)
		out, in := line.Stats()
		bytes := in.Bytes - inBefore.Bytes
		if c.mode == Download {
			bytes = out.Bytes - outBefore.Bytes
		}
		rate := float64(bytes) * 8 / Now().Sub(begin).Seconds()
		// TCP may be slow to fill the line; the line is never faster.
		if rate < 0.6*c.rate || rate > 1.03*c.rate {
			t.Errorf("%s: %.0f bit/s on the line, want %.0f", c.mode, rate, c.rate)
		}
		stream := ok(load.Stop())(t).TCP[0]
		// What comes in order to the program is less even.
		if rate := stream.Rate(begin, 0); rate < 0.4*c.rate || rate > 1.5*c.rate {
			t.Errorf("%s: %.0f bit/s in the program, want about %.0f", c.mode, rate, c.rate)
		}
		if !stream.Clean || stream.BytesBack == 0 {
			t.Errorf("%s: %+v", c.mode, stream.Err)
		}
	}
	must(t, line.Remove())
	if !pings(s.Host("h1"), server.String()) {
		t.Error("no answer after the emulator was taken out")
	}
}
