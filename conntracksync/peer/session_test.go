package peer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFramesBothWays(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair()
		if r1.Send("r2", []byte("x")) {
			t.Error("a frame was taken without a session")
		}
		bothUp(t, r1, r2)
		var want1, want2 []string
		for i := range 3000 {
			a, b := fmt.Sprintf("%d from r1", i), fmt.Sprintf("%d from r2%s", i, strings.Repeat(".", i%300))
			if !r1.Send("r2", []byte(a)) || !r2.Send("r1", []byte(b)) {
				t.Fatalf("frame %d was not taken", i)
			}
			want2, want1 = append(want2, a), append(want1, b)
		}
		big := strings.Repeat("x", MaxFrame)
		if !r1.Send("r2", []byte(big)) || r1.Send("r2", []byte(big+"x")) || !r1.Send("r2", nil) {
			t.Error("the largest frame, one too large, an empty one")
		}
		want2 = append(want2, big, "")
		for _, err := range []error{barrier(r1, "r2"), barrier(r2, "r1")} {
			if err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff(want2, r2.got()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(want1, r1.got()); diff != "" {
			t.Error(diff)
		}
		time.Sleep(time.Minute)
		if diff := cmp.Diff([]string{"up r2"}, r1.told()); diff != "" {
			t.Error(diff)
		}
		if lag, ok := r1.Lag("r2"); !ok || lag != (Lag{}) { // pipes take no time
			t.Errorf("lag %+v, %v", lag, ok)
		}
		if n := len(r1.Counters()) + len(r2.Counters()); n != 0 {
			t.Errorf("refusals: %v, %v", r1.Counters(), r2.Counters())
		}
	})
}

// TestSlowHandler: a handler that waits holds back its own frames, while the
// session lives, urgent frames of the queue overtake, and memory is bounded.
func TestSlowHandler(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair()
		bothUp(t, r1, r2)
		open := r2.shut()
		frame := make([]byte, 10_000)
		for range 300 { // 3 MB: more than the window, less than the queue
			if !r1.Send("r2", frame) {
				t.Fatal("not taken")
			}
		}
		time.Sleep(10 * time.Second)
		if !r1.SendUrgent("r2", []byte("first")) || !r1.SendUrgent("r2", []byte("second")) {
			t.Fatal("urgent frames were not taken")
		}
		time.Sleep(10 * time.Second)
		if got := r1.last() + ", " + r2.last(); got != "up r2, up r1" {
			t.Fatalf("while the handler waits: %s", got)
		}
		lag, _ := r1.Lag("r2")
		if lag.Behind < 19*time.Second || lag.Queued < 1_900_000 || lag.Queued > 2_100_000 {
			t.Errorf("lag %+v", lag)
		}
		s := r2.Sessions.session("r1")
		s.in.mu.Lock()
		held := len(s.in.bulk) + len(s.in.urgent)
		s.in.mu.Unlock()
		if held > window+urgentReserve {
			t.Errorf("%d bytes wait for the handler", held)
		}
		done := make(chan error, 1)
		go func() { done <- barrier(r1, "r2") }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("the barrier ended: %v", err)
		default:
		}
		open()
		if err := <-done; err != nil {
			t.Error(err)
		}
		got := r2.got()
		if len(got) != 302 || got[1] != "first" || got[2] != "second" {
			t.Errorf("%d frames, the second and third are %.10q, %.10q", len(got), got[1], got[2])
		}
		time.Sleep(time.Second)
		synctest.Wait() // a ping may be due now
		if lag, _ := r1.Lag("r2"); lag.Queued != 0 || lag.Behind > time.Millisecond {
			t.Errorf("in the end: %+v", lag)
		}
	})
}

func TestOverflow(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair(func(_ string, c *Config) { c.Queue = 1 << 20 })
		bothUp(t, r1, r2)
		open := r2.shut()
		early := make(chan error, 1)
		frame := make([]byte, 10_000)
		taken := 0
		for ; r1.Send("r2", frame); taken++ {
			if taken == 100 {
				go func() { early <- barrier(r1, "r2") }()
			}
			time.Sleep(time.Millisecond)
		}
		if taken < 200 || taken > 220 { // window and queue
			t.Errorf("%d frames were taken", taken)
		}
		if err := <-early; err == nil || !strings.Contains(err.Error(), "what waited was dropped") {
			t.Errorf("a barrier before it: %v", err)
		}
		synctest.Wait()
		if diff := cmp.Diff([]string{"up r2", "overflow r2"}, r1.told()); diff != "" {
			t.Fatal(diff)
		}
		if lag, _ := r1.Lag("r2"); lag.Queued > 1000 {
			t.Errorf("what waited was not dropped: %+v", lag)
		}
		if !r1.Send("r2", []byte("new")) {
			t.Error("nothing is taken after the handler was told")
		}
		open()
		if err := barrier(r1, "r2"); err != nil {
			t.Error(err)
		}
		got := r2.got()
		if got[len(got)-1] != "new" || len(got) < 90 || len(got) > 120 {
			t.Errorf("%d frames came, the last is %.10q", len(got), got[len(got)-1])
		}
		if n := r1.dropped(ReasonOverflow); n != 1 {
			t.Errorf("overflow was counted %d times", n)
		}
		for r1.SendUrgent("r2", frame) {
		}
		synctest.Wait()
		if r1.last() != "overflow r2" || r1.count("overflow r2") != 2 {
			t.Errorf("urgent ones: %v", r1.told())
		}
	})
}

// TestOverflowUntilTold: nothing is taken between the drop and the handler.
func TestOverflowUntilTold(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair(func(_ string, c *Config) { c.Queue = 1 << 20 })
		bothUp(t, r1, r2)
		open1, open2 := r1.shut(), r2.shut()
		defer open2()
		r2.Send("r1", []byte("keeps the handler of r1 busy"))
		time.Sleep(time.Millisecond)
		frame := make([]byte, 10_000)
		for r1.Send("r2", frame) {
			time.Sleep(time.Millisecond)
		}
		if r1.Send("r2", nil) {
			t.Error("a frame was taken")
		}
		wantError(t, barrier(r1, "r2"), "what waited was dropped")
		open1()
		synctest.Wait()
		if r1.last() != "overflow r2" || !r1.Send("r2", nil) {
			t.Errorf("afterwards: %v", r1.told())
		}
	})
}

// TestSilence: what a dead cable or a frozen machine looks like.
func TestSilence(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair()
		bothUp(t, r1, r2)
		for i := range 5 {
			time.Sleep(time.Duration(i) * 77 * time.Millisecond)
			l.cut("192.0.2.2", true)
			waiting := make(chan error, 1)
			go func() { waiting <- barrier(r1, "r2") }()
			took := within(t, 1500*time.Millisecond, "noticed", func() bool {
				return r1.last() == "down r2 timeout" && r2.last() == "down r1 timeout"
			})
			if took < silentAfter-beatEvery*7/6 {
				t.Errorf("down after %v", took)
			}
			wantError(t, <-waiting, "the session ended")
			if r1.Send("r2", nil) {
				t.Error("a frame was taken")
			}
			if _, ok := r1.Lag("r2"); ok {
				t.Error("a lag without a session")
			}
			time.Sleep(time.Duration(i*i) * time.Second)
			l.cut("192.0.2.2", false)
			within(t, lastRetry+greetWithin, "up again", func() bool { return r1.last() == "up r2" && r2.last() == "up r1" })
		}
	})
}

// TestHeartbeatsOnly: an idle session says little.
func TestHeartbeatsOnly(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair()
		bothUp(t, r1, r2)
		time.Sleep(time.Hour)
		if got := r1.last() + ", " + r2.last(); got != "up r2, up r1" {
			t.Error(got)
		}
	})
}

func TestLeaving(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair()
		bothUp(t, r1, r2)
		r2.Send("r1", []byte("last words"))
		if err := barrier(r2, "r1"); err != nil {
			t.Error(err)
		}
		begin := time.Now()
		r2.end()
		if took := time.Since(begin); took > farewellWithin {
			t.Errorf("it took %v", took)
		}
		within(t, time.Second, "r1 knows", func() bool { return r1.count("down r2 left") == 1 })
		if got := r2.last(); got != "down r1 stopped" {
			t.Error(got)
		}
		within(t, 2*time.Second, "nobody is there", func() bool { return r1.last() == "down r2 unreachable" })
		time.Sleep(time.Minute)
		if diff := cmp.Diff([]string{"up r2", "down r2 left", "down r2 unreachable"}, r1.told()); diff != "" {
			t.Error(diff)
		}
		again := cluster(map[string][]string{"r1": {"192.0.2.1:7947"}, "r2": {"192.0.2.2:7947"}})["r2"]
		l.node(again)
		within(t, lastRetry+100*time.Millisecond, "up again", isUp(r1, "r2"))
	})
}

// TestThreeNodes: one that is slow and one that is dead do not hold up the
// third.
func TestThreeNodes(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		all := cluster(map[string][]string{"r1": {"192.0.2.1:7947"}, "r2": {"192.0.2.2:7947"}, "r3": {"192.0.2.3:7947"}, "r4": {"192.0.2.4:7947"}})
		r1, r2, r3 := l.node(all["r1"]), l.node(all["r2"]), l.node(all["r3"])
		r4 := l.node(all["r4"])
		within(t, 2*time.Second, "all up", func() bool { return len(r1.Peers()) == 3 && len(r3.Peers()) == 3 })
		if diff := cmp.Diff([]string{"r2", "r3", "r4"}, r1.Peers()); diff != "" {
			t.Error(diff)
		}
		open := r2.shut()
		defer open()
		l.cut("192.0.2.4", true)
		for i := range 1000 {
			frame := make([]byte, 10_000)
			r1.Send("r2", frame)
			r1.Send("r4", frame)
			if !r1.Send("r3", fmt.Append(nil, i)) {
				t.Fatal("not taken")
			}
		}
		begin := time.Now()
		if err := barrier(r1, "r3"); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 10*time.Millisecond || r3.taken() != 1000 {
			t.Errorf("r3 has %d frames after %v", r3.taken(), took)
		}
		_ = r4
	})
}

// TestHandlerSendsInUp: the session takes frames as soon as the handler knows,
// and the other side has Up before them.
func TestHandlerSendsInUp(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair()
		r2.recorder.mu.Lock()
		r2.on = func(event string) {
			if event == "up r1" && !r2.Send("r1", []byte("hello")) {
				t.Error("nothing is taken in Up")
			}
		}
		r2.recorder.mu.Unlock()
		bothUp(t, r1, r2)
		within(t, time.Second, "the frame", func() bool { return r1.taken() == 1 })
	})
}

// TestBlockedHandlerAndNewSession: the handler of r2 is busy while the session
// dies and r1 comes back.
func TestBlockedHandlerAndNewSession(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair()
		bothUp(t, r1, r2)
		open := r2.shut()
		r1.Send("r2", []byte("slow"))
		r1.Send("r2", []byte("also before the end"))
		time.Sleep(time.Millisecond)
		l.cut("192.0.2.1", true)
		within(t, 1500*time.Millisecond, "noticed", func() bool { return r1.last() == "down r2 timeout" })
		l.cut("192.0.2.1", false)
		time.Sleep(10 * time.Second)
		if n := r1.count("up r2"); n != 1 {
			t.Errorf("r1 had %d sessions, although r2 takes none", n)
		}
		open()
		within(t, lastRetry+greetWithin, "up again", func() bool { return r1.last() == "up r2" && r2.last() == "up r1" })
		if diff := cmp.Diff([]string{"up r1", "down r1 timeout", "up r1"}, r2.told()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"slow", "also before the end"}, r2.got()); diff != "" {
			t.Error(diff)
		}
	})
}

// TestReplaced: r1 restarts so fast that r2 did not see it die.
func TestReplaced(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		all := cluster(map[string][]string{"r1": {"192.0.2.1:7947"}, "r2": {"192.0.2.2:7947"}})
		r2 := l.node(all["r2"])
		old := l.node(all["r1"])
		bothUp(t, old, r2)
		l.cut("192.0.2.1", true)
		old.end()
		l.cut("192.0.2.1", false)
		l.node(all["r1"])
		within(t, 2*time.Second, "a new session", func() bool { return r2.last() == "up r1" && r2.count("up r1") == 2 })
		if diff := cmp.Diff([]string{"up r1", "down r1 replaced", "up r1"}, r2.told()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestBarrierEndsWithContext(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair()
		wantError(t, barrier(r1, "r9"), "there is no session with it")
		bothUp(t, r1, r2)
		open := r2.shut()
		defer open()
		r1.Send("r2", nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		wantError(t, r1.Barrier(ctx, "r2"), "deadline exceeded")
	})
}

// TestHeard: heartbeats are signs of life, and end with the node.
func TestHeard(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		var heard atomic.Int32
		r1, _ := l.pair(func(name string, c *Config) {
			if name == "r1" {
				c.Heard = func(node string) {
					if node != "r2" {
						t.Errorf("heard %s", node)
					}
					heard.Add(1)
				}
			}
		})
		within(t, time.Second, "up", isUp(r1, "r2"))
		heard.Store(0)
		time.Sleep(3 * time.Second)
		if n := heard.Load(); n < 6 || n > 9 {
			t.Errorf("heard %d times in 3 s", n)
		}
		l.cut("192.0.2.2", true)
		heard.Store(0)
		time.Sleep(3 * time.Second)
		if n := heard.Load(); n > 0 {
			t.Errorf("heard %d times in the dark", n)
		}
	})
}

// TestOtherFrames: nodes of different versions have no session, say so once, and
// have one when both are of the same.
func TestOtherFrames(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair(func(name string, c *Config) {
			if c.Frames = 1; name == "r2" {
				c.Frames = 2
			}
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := fmt.Sprint(r1.told(), r2.told()); got != "[down r2 version] [down r1 version]" {
			t.Error(got)
		}
		if n, m := r1.dropped(ReasonVersion), r2.dropped(ReasonVersion); n == 0 || n != m || n > 90 {
			t.Errorf("counted %d and %d times", n, m)
		}
		r2.end()
		same := cluster(map[string][]string{"r1": {at1.String()}, "r2": {at2.String()}})["r2"]
		same.Frames = 1
		l.node(same)
		within(t, 2*time.Second, "up", isUp(r1, "r2"))
	})
}

// TestNonsenseForEver: sessions that each end soon for what is said in them come
// ever more seldom, whoever complains, and as before when all is well.
func TestNonsenseForEver(t *testing.T) {
	for _, by := range []string{"r1", "r2"} {
		t.Run(by, func(t *testing.T) {
			virtually(t, func(t *testing.T, l *lab) {
				r1, r2 := l.pair()
				bothUp(t, r1, r2)
				one, peer := r1, "r2"
				if by == "r2" {
					one, peer = r2, "r1"
				}
				one.recorder.mu.Lock()
				one.on = func(event string) {
					if event == "up "+peer {
						one.Restart(peer, ReasonGarbage, errors.New("nonsense"))
					}
				}
				one.recorder.mu.Unlock()
				one.Restart(peer, ReasonGarbage, errors.New("nonsense"))
				time.Sleep(5 * time.Minute)
				if n := r1.count("up r2"); n < 20 || n > 50 {
					t.Errorf("%d sessions in five minutes", n)
				}
				one.recorder.mu.Lock()
				one.on = nil
				one.recorder.mu.Unlock()
				within(t, lastAgain+time.Second, "up to stay", func() bool { return r1.last() == "up r2" && r2.last() == "up r1" })
				time.Sleep(2 * steadyAfter)
				l.cut("192.0.2.2", true)
				within(t, 2*time.Second, "down", func() bool { return r1.last() == "down r2 timeout" })
				l.cut("192.0.2.2", false)
				within(t, lastRetry+greetWithin, "up again", isUp(r1, "r2"))
			})
		})
	}
}

// TestRestart: a session that one side gives up for what was said in it is
// followed by another, whoever dials.
func TestRestart(t *testing.T) {
	for _, by := range []string{"r1", "r2"} {
		t.Run(by, func(t *testing.T) {
			virtually(t, func(t *testing.T, l *lab) {
				r1, r2 := l.pair()
				bothUp(t, r1, r2)
				one, other, peer := r1, r2, "r2"
				if by == "r2" {
					one, other, peer = r2, r1, "r1"
				}
				one.Restart(peer, ReasonGarbage, errors.New("nonsense"))
				within(t, 2*time.Second, "a new session", func() bool { return r1.count("up r2") == 2 && r2.count("up r1") == 2 })
				if got := one.count("down " + peer + " garbage"); got != 1 {
					t.Errorf("this side was told %q", one.told())
				}
				if got := other.count("down " + by + " left"); got != 1 {
					t.Errorf("the other side was told %q", other.told())
				}
				if n := one.Counters()[ReasonGarbage]; n != 1 {
					t.Errorf("counted %d times", n)
				}
				one.Restart("nobody", ReasonGarbage, nil)
			})
		})
	}
}
