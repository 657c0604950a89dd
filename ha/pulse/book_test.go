package pulse

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"harouter/ha"
)

var (
	cable   = ha.Way{Address: netip.MustParseAddr("192.0.2.1")}
	office  = ha.Way{Device: "lan0", Address: netip.MustParseAddr("192.168.77.2")}
	host    = ha.Way{Device: "lan0", Address: netip.MustParseAddr("192.168.77.100")}
	gateway = ha.Way{Device: "wan1", Address: netip.MustParseAddr("203.0.113.1")}
	mac     = net.HardwareAddr{2, 0, 0, 0, 0, 1}
)

// play lets a book ask for d. Answers tells after which time a question is
// answered, 0 never; nothing is asked while stalls says so.
func play(b *book, d time.Duration, answers func(w ha.Way, at time.Duration) time.Duration, stalls func(at time.Duration) bool) (asked map[ha.Way]int, told []at) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	type answer struct {
		*way
		at time.Duration
	}
	var wires []answer
	asked = map[ha.Way]int{}
	for now := time.Duration(0); now < d; now += 500 * time.Microsecond {
		if stalls != nil && stalls(now) {
			continue
		}
		hear := func() {
			var left []answer
			for _, a := range wires {
				if a.at > now {
					left = append(left, a)
					continue
				}
				for _, ev := range b.heard(a.on, a.Address, mac, start.Add(now)) {
					told = append(told, at{now, ev})
				}
			}
			wires = left
		}
		if b.due.IsZero() || !start.Add(now).Before(b.due) {
			hear()
		}
		ask, tell := b.tick(start.Add(now))
		for _, ev := range tell {
			told = append(told, at{now, ev})
		}
		for _, q := range ask {
			asked[q.Way]++
			if after := answers(q.Way, now); after > 0 {
				wires = append(wires, answer{q.way, now + after})
			}
		}
		if len(ask) > 0 && !b.asking {
			now += 500 * time.Microsecond
			hear()
		}
	}
	return asked, told
}

type at struct {
	time.Duration
	ev ha.Event
}

func newBook() *book {
	b := &book{}
	b.follow(ha.Pulse{Node: "r1", Ways: []ha.Way{cable, office}, Others: []ha.Way{host, gateway}})
	b.ways[0].on = "sync0"
	return b
}

const soon = 200 * time.Microsecond

// TestBook: what is told of a node that answers until 5 s after the start.
func TestBook(t *testing.T) {
	const death = 5 * time.Second
	alive := func(ha.Way, time.Duration) time.Duration { return soon }
	node := func(w ha.Way) bool { return w == cable || w == office }
	dies := func(w ha.Way, at time.Duration) time.Duration {
		if node(w) && at >= death {
			return 0
		}
		return soon
	}
	for name, c := range map[string]struct {
		answers func(ha.Way, time.Duration) time.Duration
		stalls  func(time.Duration) bool
		// The first word of 40 ms of silence, and what it says; zero: none.
		within    time.Duration
		witnessed bool
		devices   int
		recovered time.Duration // at least, a silence that ended
	}{
		"it lives": {answers: alive},
		"it dies":  {answers: dies, within: 85 * time.Millisecond, witnessed: true, devices: 2},
		"the wires die": {answers: func(w ha.Way, at time.Duration) time.Duration {
			if at >= death {
				return 0
			}
			return soon
		}, within: 85 * time.Millisecond, devices: 2},
		"only its host answers elsewhere": {answers: func(w ha.Way, at time.Duration) time.Duration {
			if w == host && at >= death {
				return 0
			}
			return dies(w, at)
		}, within: 85 * time.Millisecond, devices: 2},
		"its lan was dead for long": {answers: func(w ha.Way, at time.Duration) time.Duration {
			if w == office {
				return 0
			}
			return dies(w, at)
		}, within: 85 * time.Millisecond, devices: 1},
		"its cable dies": {answers: func(w ha.Way, at time.Duration) time.Duration {
			if w == cable && at >= death {
				return 0
			}
			return soon
		}},
		"it stands still": {answers: func(w ha.Way, at time.Duration) time.Duration {
			if node(w) && at >= death && at < death+30*time.Millisecond {
				return death + 35*time.Millisecond - at
			}
			return soon
		}},
		"it stands still for longer": {answers: func(w ha.Way, at time.Duration) time.Duration {
			if node(w) && at >= death && at < death+100*time.Millisecond {
				return death + 100*time.Millisecond - at
			}
			return soon
		}, within: 85 * time.Millisecond, witnessed: true, devices: 2, recovered: 55 * time.Millisecond},
		"its wires are slow": {answers: func(w ha.Way, _ time.Duration) time.Duration {
			if node(w) {
				return 8 * time.Millisecond
			}
			return soon
		}},
		"it never answers": {answers: func(w ha.Way, _ time.Duration) time.Duration {
			if node(w) {
				return 0
			}
			return soon
		}},
		"all of this host stands still, and the other guest comes later": {answers: func(w ha.Way, at time.Duration) time.Duration {
			if node(w) && at >= death && at < death+240*time.Millisecond {
				return death + 240*time.Millisecond - at
			}
			return soon
		}, stalls: func(at time.Duration) bool { return at >= death && at < death+200*time.Millisecond }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBook()
			_, told := play(b, death+400*time.Millisecond, c.answers, c.stalls)
			found := time.Duration(0)
			recovered := time.Duration(0)
			for _, ev := range told {
				switch e := ev.ev.(type) {
				case ha.Recovered:
					recovered = max(recovered, e.After)
				case ha.Unanswered:
					if e.For < 40*time.Millisecond || e.Rounds < 3 || found > 0 {
						continue
					}
					found = ev.Duration - death
					if found < 40*time.Millisecond || found > c.within {
						t.Errorf("told after %v, want within %v", found, c.within)
					}
					if (e.Witnessed >= 2) != c.witnessed || e.Devices != c.devices || !e.Direct || e.Node != "r1" {
						t.Errorf("told %+v, want witnessed %v, %d devices", e, c.witnessed, c.devices)
					}
				}
			}
			if (found > 0) != (c.within > 0) {
				t.Errorf("told: %v, want %v\n%v", found, c.within, told)
			}
			if recovered < c.recovered {
				t.Errorf("recovered after %v, want at least %v", recovered, c.recovered)
			}
		})
	}
}

// TestBookIsQuiet: what it costs while the node answers, and while it is off.
func TestBookIsQuiet(t *testing.T) {
	asked, told := play(newBook(), 10*time.Second, func(ha.Way, time.Duration) time.Duration { return soon }, nil)
	if n := asked[cable]; n < 240 || n > 250 {
		t.Errorf("%d questions over the cable within 10 s, want 25 a second", n)
	}
	if n := asked[office]; n < 9 || n > 11 || asked[host] > 0 || asked[gateway] > 0 || len(told) > 0 {
		t.Errorf("asked %v, told %v", asked, told)
	}
	asked, _ = play(newBook(), 60*time.Second, func(_ ha.Way, at time.Duration) time.Duration {
		if at < 5*time.Second {
			return soon
		}
		return 0
	}, nil)
	if n := asked[office]; n > 130 || asked[host] > 80 {
		t.Errorf("asked %v while it is off", asked)
	}
}

// TestBookIsReadySoon: a master that fails right after it took over is found too.
func TestBookIsReadySoon(t *testing.T) {
	const death = 150 * time.Millisecond
	_, told := play(newBook(), time.Second, func(w ha.Way, at time.Duration) time.Duration {
		if at >= death && w != host {
			return 0
		}
		return soon
	}, nil)
	for _, ev := range told {
		if e, ok := ev.ev.(ha.Unanswered); ok && e.For >= 40*time.Millisecond {
			if e.Devices != 2 || e.Witnessed < 2 || ev.Duration > death+85*time.Millisecond {
				t.Errorf("told %+v after %v", e, ev.Duration-death)
			}
			return
		}
	}
	t.Errorf("nothing is told: %v", told)
}

// TestBookFollows: an order that names the same ways keeps what is known of them.
func TestBookFollows(t *testing.T) {
	b := newBook()
	now := time.Now()
	b.heard("sync0", cable.Address, mac, now)
	b.follow(ha.Pulse{Node: "r1", Ways: []ha.Way{cable}, Others: []ha.Way{gateway}})
	if !b.ways[0].answered.Equal(now) || len(b.ways) != 1 || len(b.others) != 1 {
		t.Errorf("%+v", b)
	}
	b.follow(ha.Pulse{Node: "r3", Ways: []ha.Way{cable}})
	if !b.ways[0].answered.Equal(time.Time{}) {
		t.Error("what another node answered counts")
	}
	b.follow(ha.Pulse{})
	if ask, tell := b.tick(now); ask != nil || tell != nil || !b.due.IsZero() {
		t.Errorf("nobody is to be asked: %v %v", ask, tell)
	}
}
