package balancer

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const mbit = 1e6

// measured is a policy over lines of 10 and 20 Mbit/s, and 20 in tier 2.
func measured(m Method) Config {
	return Config{
		Uplinks: []Uplink{
			{Name: "cable", ID: 1, Weight: 1, Tier: 1, Speed: Load{10 * mbit, 2 * mbit}},
			{Name: "dsl", ID: 2, Weight: 1, Tier: 1, Speed: Load{20 * mbit, 20 * mbit}},
			{Name: "lte", ID: 3, Weight: 1, Tier: 2, Speed: Load{20 * mbit, 20 * mbit}},
		},
		Policies: []Policy{{
			Name: "default", Method: m,
			Overflow: OverflowLimits{Enter: 0.9, Leave: 0.75, Hold: 5 * time.Second},
			Margin:   LatencyMargin{Percent: 10, Time: 5 * time.Millisecond, Rounds: 3},
		}},
	}
}

// gauge drives a meter: two samples a second.
type gauge struct {
	*Meter
	now time.Time
	of  map[string]Measurement
}

func newGauge(c Config, names ...string) *gauge {
	g := &gauge{Meter: NewMeter(c), now: time.Unix(0, 0), of: map[string]Measurement{}}
	for _, n := range names {
		g.of[n] = Measurement{Usable: true}
	}
	return g
}

func (g *gauge) set(name string, change func(*Measurement)) {
	m := g.of[name]
	change(&m)
	g.of[name] = m
}

func (g *gauge) down(name string, rate float64) {
	g.set(name, func(m *Measurement) { m.Load.Down = rate })
}

func (g *gauge) run(d time.Duration) map[string]float64 {
	for end := g.now.Add(d); g.now.Before(end); {
		g.now = g.now.Add(500 * time.Millisecond)
		for n := range g.of {
			g.set(n, func(m *Measurement) { m.Samples++ })
		}
		g.Decide(g.now, g.of)
	}
	return g.Shares()["default"]
}

func want(t *testing.T, what string, got, want map[string]float64) {
	t.Helper()
	none := func(_ string, s float64) bool { return s == 0 }
	got, want = maps.Clone(got), maps.Clone(want)
	maps.DeleteFunc(got, none)
	maps.DeleteFunc(want, none)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestOverflow(t *testing.T) {
	g := newGauge(measured(Overflow), "lte", "dsl", "cable")
	want(t, "at rest", g.run(time.Second), map[string]float64{"cable": 1})
	g.down("cable", 8.5*mbit)
	want(t, "between the limits", g.run(3*time.Second), map[string]float64{"cable": 1})
	g.down("cable", 9.6*mbit)
	want(t, "full", g.run(2*time.Second), map[string]float64{"dsl": 1})
	g.down("cable", 8*mbit)
	want(t, "not below leave", g.run(20*time.Second), map[string]float64{"dsl": 1})
	g.down("cable", 1*mbit)
	want(t, "within the hold", g.run(5*time.Second), map[string]float64{"dsl": 1})
	want(t, "after the hold half comes back", g.run(time.Second), map[string]float64{"cable": 0.5, "dsl": 0.5})
	want(t, "then all", g.run(5*time.Second), map[string]float64{"cable": 1})

	g.set("cable", func(m *Measurement) { m.Load = Load{Up: 1.95 * mbit} })
	want(t, "the other direction", g.run(2*time.Second), map[string]float64{"dsl": 1})
	g.down("dsl", 19.9*mbit)
	want(t, "into the next tier", g.run(2*time.Second), map[string]float64{"lte": 1})
	g.down("lte", 19.9*mbit)
	want(t, "all are full: by their speed", g.run(2*time.Second), map[string]float64{"cable": 34. / 256, "dsl": 111. / 256, "lte": 111. / 256})
	g.set("dsl", func(m *Measurement) { m.Usable = false })
	g.run(0)
	g.Decide(g.now, g.of)
	want(t, "one dies", g.Shares()["default"], map[string]float64{"cable": 59. / 256, "lte": 197. / 256})
	g.set("dsl", func(m *Measurement) { m.Usable, m.Load = true, Load{} })
	want(t, "one that returns is not full", g.run(3*time.Second), map[string]float64{"dsl": 1})
}

// TestDegradedCountsLess: with each method a degraded line gets less.
func TestDegradedCountsLess(t *testing.T) {
	for m, want := range map[Method]float64{Overflow: 0, LeastUsed: 0.5 * 0.25 / (0.5*0.25 + 1), LowestLatency: 0} {
		g := newGauge(measured(m), "cable", "dsl")
		g.set("cable", func(m *Measurement) { m.Degraded, m.RTT, m.Rounds = true, time.Millisecond, 5 })
		g.set("dsl", func(m *Measurement) { m.RTT, m.Rounds = time.Second, 5 })
		if got := g.run(30 * time.Second)["cable"]; math.Abs(got-want) > leastStep {
			t.Errorf("%v: cable is degraded and has %v, want %v", m, got, want)
		}
	}
}

func TestOverflowWithoutASpeed(t *testing.T) {
	c := measured(Overflow)
	c.Uplinks[1].Speed = Load{}
	g := newGauge(c, "cable", "dsl", "lte")
	g.down("cable", 9.6*mbit)
	g.down("dsl", 900*mbit)
	want(t, "a line whose speed is not known is never full", g.run(3*time.Second), map[string]float64{"dsl": 1})
}

func TestLeastUsed(t *testing.T) {
	g := newGauge(measured(LeastUsed), "cable", "dsl", "lte")
	want(t, "at rest by their speed, of the lowest tier", g.run(time.Second), map[string]float64{"cable": 85. / 256, "dsl": 171. / 256})
	g.down("dsl", 16*mbit) // 10 free here, 4 there
	got := g.run(20 * time.Second)
	if math.Abs(got["cable"]-11./17) > leastStep {
		t.Errorf("11 and 6 Mbit/s count as free: %v", got)
	}
	g.set("cable", func(m *Measurement) { m.Load.Up = 2 * mbit }) // full that way
	if got = g.run(20 * time.Second); got["cable"] > 0.2 {
		t.Errorf("the upload of cable is full: %v", got)
	}
	g.set("dsl", func(m *Measurement) { m.Usable = false })
	want(t, "one dies", g.run(0), got)
	g.Decide(g.now, g.of)
	want(t, "one dies", g.Shares()["default"], map[string]float64{"cable": 1})
	g.set("cable", func(m *Measurement) { m.Usable = false })
	want(t, "the other tier", g.run(500*time.Millisecond), map[string]float64{"lte": 1})
}

func TestLowestLatency(t *testing.T) {
	const ms = time.Millisecond
	type line struct {
		rtt  time.Duration
		loss float64
	}
	for _, c := range []struct {
		name       string
		cable, dsl line
		rounds     int
		want       string
	}{
		{"quicker", line{rtt: 20 * ms}, line{rtt: 12 * ms}, 3, "dsl"},
		{"one round less", line{rtt: 20 * ms}, line{rtt: 12 * ms}, 2, "cable"},
		{"not by enough time", line{rtt: 20 * ms}, line{rtt: 16 * ms}, 9, "cable"},
		{"not by enough percent", line{rtt: 100 * ms}, line{rtt: 93 * ms}, 9, "cable"},
		{"loss costs", line{20 * ms, 0.02}, line{rtt: 22 * ms}, 3, "dsl"},
		{"loss of the other", line{rtt: 20 * ms}, line{8 * ms, 0.02}, 9, "cable"},
		{"the present one cannot be measured", line{}, line{rtt: 100 * ms}, 3, "dsl"},
		{"the other one cannot be measured", line{rtt: 100 * ms}, line{}, 9, "cable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGauge(measured(LowestLatency), "cable", "dsl")
			round := func(name string, l line) {
				g.set(name, func(m *Measurement) { m.RTT, m.Loss, m.Rounds = l.rtt, l.loss, m.Rounds+1 })
				g.Decide(g.now, g.of)
			}
			round("cable", line{rtt: 10 * ms})
			if g.Shares()["default"] != nil {
				t.Fatal("chosen before the other one could answer")
			}
			round("dsl", line{rtt: 30 * ms})
			want(t, "first", g.Shares()["default"], map[string]float64{"cable": 1})
			for range c.rounds {
				round("cable", c.cable)
				round("dsl", c.dsl)
			}
			want(t, "then", g.Shares()["default"], map[string]float64{c.want: 1})
		})
	}
	t.Run("death", func(t *testing.T) {
		g := newGauge(measured(LowestLatency), "cable", "dsl")
		for i, n := range []string{"cable", "dsl"} {
			g.set(n, func(m *Measurement) { m.RTT, m.Rounds = time.Duration(i+1)*10*ms, 1 })
		}
		want(t, "first", g.run(time.Second), map[string]float64{"cable": 1})
		g.set("cable", func(m *Measurement) { m.Degraded = true })
		want(t, "degraded", g.run(time.Second), map[string]float64{"dsl": 1})
		g.set("dsl", func(m *Measurement) { m.Usable = false })
		want(t, "dead", g.run(time.Second), map[string]float64{"cable": 1})
	})
}

// TestMeterGoesOn: a node goes on from the map of the one before, as if it had
// made it.
func TestMeterGoesOn(t *testing.T) {
	for _, m := range []Method{Overflow, LeastUsed, LowestLatency} {
		g := newGauge(measured(m), "cable", "dsl", "lte")
		for i, n := range []string{"cable", "dsl", "lte"} {
			g.set(n, func(m *Measurement) { m.RTT, m.Rounds = time.Duration(3-i)*10*time.Millisecond, 5 })
		}
		g.down("cable", 9.9*mbit)
		g.run(10 * time.Second)
		g.down("cable", 0)
		g.run(6 * time.Second)
		next := newGauge(measured(m), "cable", "dsl", "lte")
		next.of = g.of
		next.Follow(g.Shares())
		if next.Decide(next.now, next.of) {
			t.Errorf("%v: the next node makes %v of %v", m, next.Shares(), g.Shares())
		}
		g.Reconfigure(measured(m))
		if g.Decide(g.now, g.of) {
			t.Errorf("%v: a reload changed the shares", m)
		}
		g.Reconfigure(measured(Weighted))
		if len(g.Shares()) != 0 {
			t.Errorf("%v: after the reload to weighted there are %v", m, g.Shares())
		}
	}
}

// TestLineThatWorksHere: what the node before could not use is not full here.
func TestLineThatWorksHere(t *testing.T) {
	g := newGauge(measured(Overflow), "cable", "dsl", "lte")
	g.set("cable", func(m *Measurement) { m.Usable = false })
	want(t, "cable is dead", g.run(2*time.Second), map[string]float64{"dsl": 1})
	next := newGauge(measured(Overflow), "cable", "dsl", "lte")
	next.Follow(g.Shares())
	want(t, "it works here", next.run(time.Second), map[string]float64{"cable": 1})
	g.set("cable", func(m *Measurement) { m.Usable = true })
	g.down("cable", 9.9*mbit)
	want(t, "cable is full", g.run(3*time.Second), map[string]float64{"dsl": 1})
	next = newGauge(measured(Overflow), "cable", "dsl", "lte")
	next.Follow(g.Shares())
	want(t, "so it is here", next.run(time.Second), map[string]float64{"dsl": 1})
}

// TestMeasuredSlots: the shares are the slots, whatever the weights say.
func TestMeasuredSlots(t *testing.T) {
	c := measured(Overflow)
	in := Input{Usable: map[string]bool{"cable": true, "dsl": true, "lte": true}}
	for _, test := range []struct {
		name   string
		shares Shares
		want   map[string]float64
	}{
		{"none yet: the first", nil, map[string]float64{"cable": 1, "dsl": 0, "lte": 0}},
		{"parts", Shares{"default": {"cable": 0.25, "dsl": 0.75}}, map[string]float64{"cable": 0.25, "dsl": 0.75, "lte": 0}},
		{"another tier", Shares{"default": {"lte": 1}}, map[string]float64{"cable": 0, "dsl": 0, "lte": 1}},
	} {
		in.Shares = test.shares
		slots, _ := c.slots(0, in)
		want(t, test.name, c.shares(slots), test.want)
	}
}

// network is simulated: flows of a rate and a length begin where the
// shares say, and make the load.
type network struct {
	*gauge
	rng     *rand.Rand
	flows   []simFlow
	changes int
	swing   []float64 // the share of cable
}

type simFlow struct {
	line string
	rate float64
	end  time.Time
}

// offer has flows begin for a while: so much per second, each so long. It returns
// the mean load of each line in the second half, as a part of its speed.
func (n *network) offer(d time.Duration, rate float64, length time.Duration) map[string]float64 {
	const step = 500 * time.Millisecond
	sum, count := map[string]float64{}, 0.0
	begin := n.now
	perFlow := rate * step.Seconds() / length.Seconds() / 32 // so many a step
	for n.now.Sub(begin) < d {
		shares := n.Shares()["default"]
		for range 32 {
			at, line := n.rng.Float64(), ""
			for _, u := range n.cfg.Uplinks {
				if at -= shares[u.Name]; at < 0 {
					line = u.Name
					break
				}
			}
			if line != "" {
				n.flows = append(n.flows, simFlow{line, perFlow, n.now.Add(length)})
			}
		}
		load := map[string]float64{}
		var rest []simFlow
		for _, f := range n.flows {
			if f.end.After(n.now) {
				load[f.line] += f.rate
				rest = append(rest, f)
			}
		}
		n.flows = rest
		for _, u := range n.cfg.Uplinks {
			n.down(u.Name, math.Min(load[u.Name], u.Speed.Down)) // a line carries no more
			if n.now.Sub(begin) >= d/2 {
				sum[u.Name] += math.Min(load[u.Name], u.Speed.Down) / u.Speed.Down
			}
		}
		if n.now.Sub(begin) >= d/2 {
			count++
			n.swing = append(n.swing, shares["cable"])
		}
		was := n.Shares()
		n.run(step)
		if !was.Equal(n.Shares()) && n.now.Sub(begin) >= d/2 {
			n.changes++
		}
	}
	for name := range sum {
		sum[name] /= count
	}
	return sum
}

// TestNoOscillation: traffic follows the shares, and the shares the traffic.
func TestNoOscillation(t *testing.T) {
	for _, m := range []Method{Overflow, LeastUsed} {
		for _, length := range []time.Duration{time.Second, 5 * time.Second, 30 * time.Second} {
			for _, rate := range []float64{8 * mbit, 12 * mbit, 16 * mbit, 24 * mbit} {
				t.Run(fmt.Sprintf("%v %v %v Mbit", m, length, rate/mbit), func(t *testing.T) {
					c := measured(m)
					c.Uplinks = c.Uplinks[:2]
					n := &network{gauge: newGauge(c, "cable", "dsl"), rng: rand.New(rand.NewPCG(1, 2))}
					n.Decide(n.now, n.of)
					load := n.offer(6*time.Minute, rate, length) // half of it to settle
					t.Logf("load %v, %d changes in 3 minutes, share %.2f to %.2f", load, n.changes, slices.Min(n.swing), slices.Max(n.swing))
					if m == LeastUsed && math.Abs(load["cable"]-load["dsl"]) > 0.15 {
						t.Errorf("the lines are not alike loaded: %v", load)
					}
					if m == Overflow && rate > 9*mbit && (load["cable"] < 0.55 || load["cable"] > 0.97) {
						t.Errorf("cable is loaded with %.2f, its limits are 0.75 and 0.9", load["cable"])
					}
					if n.changes > 50 {
						t.Errorf("%d changes of the shares in 3 minutes", n.changes)
					}
				})
			}
		}
	}
}
