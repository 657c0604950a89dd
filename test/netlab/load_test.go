package netlab

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLoadOnAQuietSite(t *testing.T) {
	s := plain(t)
	load := StandardLoad(server, gateway)
	load.TCP = append(load.TCP, TCPFlows{Server: load.TCP[0].Server, Flows: 2}, // idle
		TCPFlows{Server: load.TCP[0].Server, Flows: 1, Mode: Upload, Interval: 5 * time.Millisecond, Size: 1000},
		TCPFlows{Server: load.TCP[0].Server, Flows: 1, Mode: Download, Interval: 5 * time.Millisecond, Size: 1000})
	c := ok(s.Load("h1", load))(t)
	s.Mark("begin")
	pass(400 * time.Millisecond)
	must(t, c.Poke(time.Second))
	snap := ok(c.Snapshot())(t)
	if snap.TCPAlive != 36 || snap.UDPSent == 0 || snap.FreshOK == 0 || snap.FreshFailed != 0 || snap.Uplinks[wan1] != 4 {
		t.Errorf("snapshot %+v", snap)
	}
	r := ok(c.Stop())(t)
	if r.Survivors() != 36 || r.LostSince("begin") != 0 || r.FreshFailedSince("begin") != 0 || len(r.Renatted("begin")) != 0 {
		t.Errorf("a quiet site:\n%s", r)
	}
	for _, f := range append(r.UDP, r.Ping...) {
		if f.Duplicated+f.Reordered+f.Unsent != 0 {
			t.Errorf("%s: %d doubled, %d out of order, %d not sent", f.Name, f.Duplicated, f.Reordered, f.Unsent)
		}
	}
	if n := len(r.UDP[0].Sent); n < 150 {
		t.Errorf("%d datagrams in 0.4 s at 500/s", n)
	}
	idle := r.TCP[33]
	if len(idle.Echo) != 1 || idle.BytesBack != 64 {
		t.Errorf("idle flow: %d messages, %d bytes", len(idle.Echo), idle.BytesBack)
	}
	for _, bulk := range r.TCP[34:] {
		if b := bulk.BytesBack; b < 20_000 || b > 150_000 {
			t.Errorf("%s: %d bytes in 0.4 s at 200,000 a second", bulk.Mode, b)
		}
	}
	if got := r.FreshByISP(0, 0); got["isp1"] != len(r.Fresh) {
		t.Errorf("fresh connections by ISP: %v of %d", got, len(r.Fresh))
	}
	if on := r.On("isp1", "begin"); len(on) != 4 {
		t.Errorf("%d flows on isp1, want 4", len(on))
	}
}

func TestADroppedSecondIsAGapOfASecond(t *testing.T) {
	s := plain(t)
	load := StandardLoad(server, gateway)
	load.Fresh[0].Timeout = 200 * time.Millisecond
	load.Drain = 3 * time.Second
	c := ok(s.Load("h1", load))(t)
	pass(200 * time.Millisecond)
	s.Mark("cut")
	lan := s.Port("r1", "lan0")
	must(t, lan.Drop(Out, "")) // requests still reach the server
	s.Mark("dead")
	pass(time.Second)
	if snap := ok(c.Snapshot())(t); snap.Silent < 900*time.Millisecond || snap.PingSilent < 900*time.Millisecond {
		t.Errorf("silence as it lasts: %s and %s", snap.Silent, snap.PingSilent)
	}
	s.Mark("mending")
	must(t, lan.Pass())
	s.Mark("mended")
	pass(1500 * time.Millisecond)
	r := ok(c.Stop())(t)

	second := r.Mark("mending").Sub(r.Mark("dead"))
	atMost := r.Mark("mended").Sub(r.Mark("cut")) + 60*time.Millisecond + r.StallSince("cut")
	within(t, "gap of UDP", r.GapSince("cut"), second, atMost)
	within(t, "gap of pings", r.PingGapSince("cut"), second, atMost)
	within(t, "gap of UDP after it", longestGap(r.UDP, r.Mark("mended").Add(60*time.Millisecond), 0), 0, second/2)
	if lost := r.UDP[0].Lost(r.Mark("cut"), r.Mark("mended")); lost < 400 {
		t.Errorf("lost %d datagrams in the second, want about 500", lost)
	}
	if got, sent := r.UDP[0].ServerGot, len(r.UDP[0].Sent); got != uint64(sent) {
		t.Errorf("the server had %d of %d: only answers were dropped", got, sent)
	}
	if again, ok := r.FreshAgain("cut"); !ok {
		t.Errorf("fresh connections did not work again:\n%s", r)
	} else {
		within(t, "fresh connections work again", again, second-250*time.Millisecond, atMost+100*time.Millisecond)
	}
	if w := r.FreshWindows(); len(w) != 1 || w[0].Failed < 30 {
		t.Errorf("windows of failure: %+v", w)
	}
	if r.Survivors() != 32 {
		t.Errorf("%d of 32 TCP flows survived a second:\n%s", r.Survivors(), r)
	}
	if !strings.Contains(r.String(), "mark cut at") {
		t.Errorf("report:\n%s", r)
	}
}

func TestChangedNATAndBrokenFlowsAreSeen(t *testing.T) {
	s := plain(t)
	load := StandardLoad(server, gateway)
	load.TCP[0].Flows = 4
	for _, mode := range []Mode{Upload, Download} {
		load.TCP = append(load.TCP, TCPFlows{Server: load.TCP[0].Server, Flows: 1, Mode: mode, Interval: 20 * time.Millisecond})
	}
	load.Drain = 300 * time.Millisecond
	c := ok(s.Load("h1", load))(t)
	pass(100 * time.Millisecond)
	if n := len(ok(s.Router("r1").Connections(0, 0))(t)); n < 10 {
		t.Errorf("%d connections on r1, want those of 10 flows at least", n)
	}
	s.Mark("move")
	// Without the rule that keeps flows in place, all entries gone: UDP flows
	// begin anew over isp2, TCP flows meet a server that knows nothing of them.
	r1 := s.Router("r1")
	must(t, r1.IP("route replace default via 203.0.113.129 dev wan2"))
	must(t, r1.FlushConnections())
	pass(300 * time.Millisecond)
	r := ok(c.Stop())(t)
	if n := len(r.Renatted("move")); n != 4 {
		t.Errorf("%d UDP flows changed their source, want 4\n%s", n, r)
	}
	if f := r.UDP[0]; f.Source().Addr() != wan2 || f.Seen[0].From.Addr() != wan1 {
		t.Errorf("sources %v", f.Seen)
	}
	if r.Survivors() != 0 || len(r.On("isp1", "move")) != 4 {
		t.Errorf("%d TCP flows survived, %d UDP flows were on isp1\n%s", r.Survivors(), len(r.On("isp1", "move")), r)
	}
}

func TestLoadThatCannotBeginSaysWhy(t *testing.T) {
	s := ForTest(t, Pair(PairOptions{}))
	_, err := s.Load("h1", Load{UDP: []UDPFlows{{Server: netip.MustParseAddrPort("192.168.77.100:9"), Interval: time.Second}},
		TCP: []TCPFlows{{Server: netip.MustParseAddrPort("192.168.77.100:9"), Flows: 1}}})
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v, want the refusal", err)
	}
}

func TestProcesses(t *testing.T) {
	s := ForTest(t, Pair(PairOptions{}))
	r1 := s.Router("r1")
	p := ok(r1.Start("shell", "sh", "-c", "echo here; trap 'echo told; exit 3' TERM; while :; do sleep 0.01; done"))(t)
	log := func() string { return ok(r1.Exec("cat", p.Log))(t) }
	must(t, WaitFor("its word", time.Second, func() bool { return strings.Contains(log(), "here") }))
	must(t, p.Signal(unix.SIGSTOP))
	must(t, p.Signal(unix.SIGCONT))
	if code := ok(p.Stop(time.Second))(t); code != 3 || !strings.Contains(log(), "told") {
		t.Errorf("exit code %d, log %q", code, log())
	}
	if err := p.Signal(unix.SIGTERM); err == nil {
		t.Error("a signal to a program that has ended: want an error")
	}
	stubborn := ok(r1.Start("stubborn", "sh", "-c", "trap '' TERM; while :; do sleep 0.01; done"))(t)
	pass(20 * time.Millisecond) // for the trap
	if _, err := stubborn.Stop(50 * time.Millisecond); err == nil {
		t.Error("a program that does not end: want an error")
	}
	sleeper := ok(r1.Start("sleeper", "sleep", "1000"))(t)
	must(t, WaitFor("sleep to run", time.Second, func() bool {
		running := ok(r1.Processes())(t)
		return len(running) == 1 && running[0].Args == "sleep 1000" && running[0].PID == sleeper.PID
	}))
	must(t, sleeper.Kill())
}

func TestPattern(t *testing.T) {
	var all []byte
	for sent := (pattern{flow: 3}); len(all) < 3*patternBlock; { // in pieces that fit nothing
		b := make([]byte, 777)
		sent.fill(b)
		all = append(all, b...)
	}
	changed := func(at int) []byte {
		b := append([]byte(nil), all...)
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		flow  uint32
		bytes []byte
		right bool
	}{
		"as sent":        {3, all, true},
		"another flow":   {4, all, false},
		"a byte changed": {3, changed(2*patternBlock + 5), false},
		"a byte missing": {3, append(append([]byte(nil), all[:5000]...), all[5001:]...), false},
		"a block twice":  {3, append(append([]byte(nil), all[:patternBlock]...), all...), false},
	} {
		want, right := pattern{flow: c.flow}, true
		for b := c.bytes; len(b) > 0 && right; b = b[min(1000, len(b)):] {
			right = want.accept(b[:min(1000, len(b))])
		}
		if right != c.right {
			t.Errorf("%s: accepted %t", name, right)
		}
	}
}
