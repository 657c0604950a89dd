package balancer

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// feed drives h with one letter per event, a second apart, and returns one
// letter per verdict. Events: g good, b bad, c bad but it carries traffic, a only ARP and answered, n only
// ARP and silent, - carrier lost, + carrier back. Verdicts: ? unknown, U up,
// d degraded, D down. It fails when `changed` does not tell the truth.
func feed(t *testing.T, h *Health, now *time.Time, events string) string {
	t.Helper()
	var got strings.Builder
	for i, e := range events {
		*now = now.Add(time.Second)
		before := h.Verdict()
		var changed bool
		switch e {
		case 'g':
			changed = h.Round(Round{At: *now, Good: true, RTT: 10 * time.Millisecond})
		case 'b':
			changed = h.Round(Round{At: *now, Reason: "no answer"})
		case 'c':
			changed = h.Round(Round{At: *now, Reason: "no answer", Carries: true})
		case 'a':
			changed = h.Round(Round{At: *now, Good: true, OnlyARP: true, RTT: time.Millisecond})
		case 'n':
			changed = h.Round(Round{At: *now, OnlyARP: true, Reason: "gateway is silent"})
		case '-':
			changed = h.Link(false, *now)
		case '+':
			changed = h.Link(true, *now)
		}
		if changed != (before != h.Verdict()) {
			t.Errorf("event %d (%c): changed = %v, from %v to %v", i, e, changed, before, h.Verdict())
		}
		if changed && !h.Since().Equal(*now) {
			t.Errorf("event %d (%c): since %v, want %v", i, e, h.Since(), *now)
		}
		got.WriteByte("?UdD"[h.Verdict()])
	}
	return got.String()
}

func TestSureLoss(t *testing.T) {
	h, now := NewHealth(ProbeConfig{Fall: 9}), time.Unix(0, 0)
	for _, c := range []struct {
		events string
		want   float64
	}{{"", 0}, {"gggb", 0}, {"gb", 1. / 60}, {"bbb", 4. / 60}} {
		feed(t, h, &now, c.events)
		if got := h.SureLoss(); got < c.want-1e-9 || got > c.want+1e-9 {
			t.Errorf("after %q: %v, want %v", c.events, got, c.want)
		}
	}
}

func TestHealthSequences(t *testing.T) {
	for _, c := range []struct{ name, events, want string }{
		{"first good round says up", "g", "U"},
		{"what carries traffic stays up", "gbcccccccg", "UUUUUUUUUU"},
		{"until it does not", "gbccccb", "UUUUUUD"},
		{"fall is not shorter for it", "gcbb", "UUUD"},
		{"what is down stays down", "gbbbccccc", "UUUDDDDDD"},
		{"what is unknown stays so", "bcccb", "????D"},
		{"a cable that was pulled", "gc-ccc", "UUDDDD"},
		{"first verdict after a bad round", "bg", "?U"},
		{"fall bad rounds say down", "bbb", "??D"},
		{"down is left after rise", "bbbggggg", "??DDDDDU"},
		{"a bad round starts rise anew", "bbbggggbggggg", "??DDDDDDDDDDU"},
		{"a good round starts fall anew", "gbbgbbgbbb", "UUUUUUUUUD"},
		{"carrier loss is down at once", "g-", "UD"},
		{"carrier back is not up", "g-+ggggg", "UDDDDDDU"},
		{"carrier back, answers too few", "g-+ggggbggggg", "UDDDDDDDDDDDU"},
		{"carrier flaps", "g-+gg-+gggg-+ggggg", "UDDDDDDDDDDDDDDDDU"},
		{"late answers without carrier", "g-gggggggg+gggg", "UDDDDDDDDDDDDDD"},
		{"bad rounds without carrier do not count", "g-bbbbb+ggggg", "UDDDDDDDDDDDU"},
		{"no carrier from the start", "-+ggggg", "DDDDDDU"},
		{"carrier told again", "+g+g--++ggggg", "?UUUDDDDDDDDU"},
		{"ARP answers never say up", "aaaaaaaa", "????????"},
		{"ARP silence is down", "nnn", "??D"},
		{"after ARP the first probe answers", "aaag", "???U"},
		{"address lost: unknown at once", "ga", "U?"},
		{"address back: up at once", "gaaag", "U???U"},
		{"address lost, then silence", "gann", "U???"},
		{"address lost, then silence, fall", "gannn", "U???D"},
		{"silence counts on over the kinds", "gbna", "UUU?"},
		{"silence over the kinds, fall", "gbnb", "UUUD"},
		{"down to unknown takes rise", "bbbaaaaa", "??DDDDD?"},
		{"down to unknown, a silent round between", "bbbaaaanaaaaa", "??DDDDDDDDDD?"},
		{"from unknown that was down up takes rise", "bbbaaaaaggggg", "??DDDDD?????U"},
		{"answers of both kinds", "bbbaagggggg", "??DDDDDDDUU"},
		{"good rounds do not make unknown", "bbbggggaggggg", "??DDDDD?????U"},
		{"unknown, carrier lost and back", "a-+aaaaaggggg", "?DDDDDD?????U"},
		{"down on both", "nnnbbb-+bbb", "??DDDDDDDDD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			h := NewHealth(ProbeConfig{Fall: 3, Rise: 5})
			if diff := cmp.Diff(c.want, feed(t, h, &now, c.events)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.events, diff)
			}
		})
	}
}

func TestHealthWithoutNumbers(t *testing.T) {
	now := time.Unix(1000, 0)
	if got := feed(t, NewHealth(ProbeConfig{}), &now, "gbgb"); got != "UDUD" {
		t.Errorf("fall and rise 0: %s, want UDUD", got)
	}
}

func TestHealthReconfigureKeepsTheVerdict(t *testing.T) {
	now := time.Unix(1000, 0)
	h := NewHealth(ProbeConfig{Fall: 3, Rise: 5})
	got := feed(t, h, &now, "gbb")
	h.Reconfigure(ProbeConfig{Fall: 5, Rise: 2})
	got += feed(t, h, &now, "bbbgg")
	if want := "UUU" + "UUDDU"; got != want {
		t.Errorf("verdicts %s, want %s", got, want)
	}
}

func TestHealthReasons(t *testing.T) {
	now := time.Unix(1000, 0)
	h := NewHealth(ProbeConfig{Fall: 2, Rise: 2})
	for _, c := range []struct{ events, want string }{
		{"b", ""},
		{"g", ""},
		{"bb", "no answer"},
		{"n", "gateway is silent"},
		{"-", "no carrier"},
		{"b", "no carrier"},
		{"+", "carrier is back, not answered yet"},
		{"g", "carrier is back, not answered yet"},
		{"g", ""},
		{"a", "this node has no address to probe the targets from; the gateway answers"},
	} {
		feed(t, h, &now, c.events)
		if h.Reason() != c.want {
			t.Errorf("after %s: reason %q, want %q", c.events, h.Reason(), c.want)
		}
	}
}

func TestHealthLoss(t *testing.T) {
	now := time.Unix(1000, 0)
	h := NewHealth(ProbeConfig{Fall: 3, Rise: 5})
	if _, known := h.Loss(); known {
		t.Error("a loss is known before any round")
	}
	for _, c := range []struct {
		events string
		want   float64
	}{
		{"ggggggggb", 1.0 / 9},
		{strings.Repeat("g", 200), 0},
		{strings.Repeat("gggb", 100), 0.25},
		{"gbbb", 1}, // Down: only the streak that made it so counts
		{"ggg", 0.5},
		{"gg", 0}, // Up: the outage is forgotten
		{"b", 1.0 / 6},
	} {
		feed(t, h, &now, c.events)
		if got, known := h.Loss(); !known || got != c.want {
			t.Errorf("after %s: loss %v, %v, want %v", c.events, got, known, c.want)
		}
	}
	if feed(t, h, &now, "-"); h.Verdict() != Down {
		t.Fatal("not down")
	}
	if _, known := h.Loss(); known {
		t.Error("a loss is known without carrier")
	}
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func TestHealthRTT(t *testing.T) {
	h := NewHealth(ProbeConfig{Fall: 2, Rise: 2})
	for i, c := range []struct {
		round       Round
		rtt, jitter time.Duration
	}{
		{Round{}, 0, 0},
		{Round{Good: true, RTT: ms(80)}, ms(80), 0},
		{Round{Good: true, RTT: ms(160)}, ms(90), ms(80)},
		{Round{Good: true}, ms(90), ms(80)}, // answered, how fast is not known
		{Round{}, ms(90), ms(80)},
		{Round{}, 0, 0}, // down
		{Round{Good: true, RTT: ms(8)}, 0, 0},
		{Round{Good: true, RTT: ms(16)}, ms(9), ms(8)},
		{Round{Good: true, RTT: ms(1), OnlyARP: true}, ms(1), 0}, // another measure
		{Round{Good: true, RTT: ms(20)}, ms(20), 0},
	} {
		h.Round(c.round)
		if h.RTT() != c.rtt || h.Jitter() != c.jitter {
			t.Errorf("step %d: rtt %v jitter %v, want %v %v", i, h.RTT(), h.Jitter(), c.rtt, c.jitter)
		}
	}
}

func TestHealthDegraded(t *testing.T) {
	now := time.Unix(1000, 0)
	rounds := func(h *Health, n int, rtt ...time.Duration) Verdict {
		for i := range n {
			now = now.Add(time.Second)
			h.Round(Round{At: now, Good: true, RTT: rtt[i%len(rtt)]})
		}
		return h.Verdict()
	}
	t.Run("loss", func(t *testing.T) {
		h := NewHealth(ProbeConfig{Fall: 3, Rise: 5, Loss: Limit[float64]{Degraded: 0.10, Clear: 0.05}})
		got := feed(t, h, &now, "gbgggggggggg") // 1 of 12: too few to judge
		got += feed(t, h, &now, strings.Repeat("gggggggggggb", 3))
		if strings.ContainsAny(got, "dD") {
			t.Fatalf("judged too early or too hard: %s", got)
		}
		// The 5th of 50 lost rounds makes 10 %.
		if got = feed(t, h, &now, "gb"); got != "Ud" {
			t.Fatalf("verdicts %s", got)
		}
		if want := "loss 10 % (degraded from 10 %, up again at 5 %)"; h.Reason() != want {
			t.Errorf("reason %q, want %q", h.Reason(), want)
		}
		// Of the rounds 2, 24, 36, 48 and 50, 3 may stay in the window.
		want := strings.Repeat("d", 33) + "U"
		if got = feed(t, h, &now, strings.Repeat("g", 34)); got != want {
			t.Fatalf("verdicts %s, want %s", got, want)
		}
		if feed(t, h, &now, "bbb"+"ggggg"); h.Verdict() != Up {
			t.Errorf("after an outage: %v, want up", h.Verdict())
		}
	})
	t.Run("latency", func(t *testing.T) {
		h := NewHealth(ProbeConfig{Fall: 3, Rise: 5, Latency: Limit[time.Duration]{Degraded: ms(300), Clear: ms(200)}})
		for _, c := range []struct {
			rtt  int
			want Verdict
		}{{100, Up}, {280, Up}, {320, Degraded}, {250, Degraded}, {150, Up}, {250, Up}} {
			if got := rounds(h, 100, ms(c.rtt)); got != c.want {
				t.Errorf("at %d ms: %v, want %v", c.rtt, got, c.want)
			}
		}
		rounds(h, 100, ms(350))
		if want := "latency 350ms (degraded from 300ms, up again at 200ms)"; h.Reason() != want {
			t.Errorf("reason %q, want %q", h.Reason(), want)
		}
	})
	t.Run("jitter", func(t *testing.T) {
		h := NewHealth(ProbeConfig{Fall: 3, Rise: 5, Jitter: Limit[time.Duration]{Degraded: ms(30), Clear: ms(10)}})
		if got := rounds(h, 100, ms(50), ms(100)); got != Degraded || h.Jitter() != ms(50) {
			t.Errorf("50 ms to and fro: %v, jitter %v", got, h.Jitter())
		}
		if want := "jitter 50ms (degraded from 30ms, up again at 10ms)"; h.Reason() != want {
			t.Errorf("reason %q, want %q", h.Reason(), want)
		}
		if got := rounds(h, 200, ms(70), ms(75)); got != Up {
			t.Errorf("5 ms to and fro: %v", got)
		}
	})
	t.Run("all three", func(t *testing.T) {
		h := NewHealth(ProbeConfig{Fall: 3, Rise: 5, Loss: Limit[float64]{Degraded: 0.10, Clear: 0.05},
			Latency: Limit[time.Duration]{Degraded: ms(40), Clear: ms(20)}, Jitter: Limit[time.Duration]{Degraded: ms(30), Clear: ms(10)}})
		rounds(h, 40, ms(20), ms(100))
		feed(t, h, &now, "gbbgbbgbb")
		want := "loss 12.2 % (degraded from 10 %, up again at 5 %); " +
			"latency 56.5ms (degraded from 40ms, up again at 20ms); " +
			"jitter 76.4ms (degraded from 30ms, up again at 10ms)"
		if h.Reason() != want {
			t.Errorf("reason %q, want %q", h.Reason(), want)
		}
	})
	t.Run("one slow answer is none", func(t *testing.T) {
		h := NewHealth(ProbeConfig{Fall: 3, Rise: 5, Latency: Limit[time.Duration]{Degraded: ms(100), Clear: ms(50)},
			Jitter: Limit[time.Duration]{Degraded: ms(30), Clear: ms(10)}})
		rounds(h, 60, ms(20))
		if got := rounds(h, 1, ms(800)); got != Up {
			t.Errorf("after a slow answer: %v: %s", got, h.Reason())
		}
		if got := rounds(h, 1, ms(20)); got != Up {
			t.Errorf("after a quick one again: %v: %s", got, h.Reason())
		}
	})
	t.Run("the times of another kind of probe do not count", func(t *testing.T) {
		h := NewHealth(ProbeConfig{Fall: 3, Rise: 5, Latency: Limit[time.Duration]{Degraded: ms(100), Clear: ms(50)}})
		rounds(h, 60, ms(200))
		h.Round(Round{At: now, Good: true, OnlyARP: true, RTT: ms(1)})
		if got := rounds(h, 5, ms(20)); got != Up {
			t.Errorf("after ARP: %v: %s", got, h.Reason())
		}
		if got := rounds(h, 55, ms(200)); got != Degraded {
			t.Errorf("slow again: %v", got)
		}
	})
	t.Run("an outage is a new beginning", func(t *testing.T) {
		h := NewHealth(ProbeConfig{Fall: 3, Rise: 5, Loss: Limit[float64]{Degraded: 0.10, Clear: 0.05},
			Latency: Limit[time.Duration]{Degraded: ms(5), Clear: ms(2)}})
		if got := feed(t, h, &now, strings.Repeat("ggggb", 10)+"bb"+"gggggggg"); !strings.HasSuffix(got, "ddDDDDDUUUU") {
			t.Errorf("verdicts %s", got)
		}
	})
	t.Run("without limits", func(t *testing.T) {
		h := NewHealth(ProbeConfig{Fall: 3, Rise: 5})
		if got := feed(t, h, &now, strings.Repeat("gb", 50)); strings.Contains(got, "d") {
			t.Errorf("verdicts %s", got)
		}
	})
	t.Run("a reload sets limits, and takes them away", func(t *testing.T) {
		h := NewHealth(ProbeConfig{Fall: 3, Rise: 5})
		rounds(h, 60, ms(200))
		h.Reconfigure(ProbeConfig{Fall: 3, Rise: 5, Latency: Limit[time.Duration]{Degraded: ms(100), Clear: ms(50)}})
		if got := rounds(h, 1, ms(200)); got != Degraded {
			t.Errorf("with a limit: %v", got)
		}
		h.Reconfigure(ProbeConfig{Fall: 3, Rise: 5})
		if got := rounds(h, 1, ms(200)); got != Up {
			t.Errorf("without: %v", got)
		}
	})
	t.Run("degraded still falls", func(t *testing.T) {
		h := NewHealth(ProbeConfig{Fall: 3, Rise: 2, Loss: Limit[float64]{Degraded: 0.10, Clear: 0.05}})
		got := feed(t, h, &now, strings.Repeat("gb", 15)+"bb")
		if !strings.HasSuffix(got, "ddD") {
			t.Errorf("verdicts %s", got)
		}
	})
}
