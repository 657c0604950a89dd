package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// walk is a packet on its way through rules: it gives the chain that a goto of
// the kind policy leads to, "" where nobody takes it.
type walk struct {
	sets   map[string]Set
	chains map[string]Chain
	lans   []Lan
	values [matchFields]uint64 // of the packet
	noMAC  bool                // it came without an Ethernet header
	asked  int
}

func newWalk(lans []Lan, sets []Set, chains []Chain) *walk {
	w := &walk{sets: map[string]Set{}, chains: map[string]Chain{}, lans: lans}
	for _, s := range sets {
		w.sets[s.Name] = s
	}
	for _, c := range chains {
		w.chains[c.Name] = c
	}
	return w
}

func (w *walk) run(t *testing.T, rules []Rule) string {
	t.Helper()
	for _, r := range rules {
		var to Jump
		switch s := r[0].(type) {
		case Jump:
			to = s
		case VMap:
			to = w.ask(t, s)
		default:
			t.Fatalf("a rule %v in a tree", r)
		}
		switch to.Kind {
		case "":
		case "goto":
			return to.Chain
		case "jump":
			if found := w.run(t, w.chains[to.Chain].Rules); found != "" {
				return found
			}
		default:
			t.Fatalf("a verdict %v in a tree", to)
		}
	}
	return ""
}

// ask looks a value up as the kernel does, and checks that spans do not overlap
// and ports are asked only of what has ports.
func (w *walk) ask(t *testing.T, v VMap) (to Jump) {
	t.Helper()
	w.asked++
	f := Field(slices.Index(fieldSelectors[:], v.By))
	set, ok := w.sets[v.Map]
	if !ok {
		t.Fatalf("no set %s", v.Map)
	}
	if (f == MatchSourcePort || f == MatchDestinationPort) && !WithPorts.Has(w.values[MatchProtocol]) {
		t.Fatalf("ports of protocol %d are asked for", w.values[MatchProtocol])
	}
	if f == MatchMAC && w.noMAC {
		return Jump{}
	}
	found := 0
	for _, e := range set.Elements {
		if f == MatchLan && e.Ifname == w.lans[w.values[f]].Device || f != MatchLan && e.Span.First <= w.values[f] && w.values[f] <= e.Span.Last {
			to, found = e.Verdict, found+1
		}
	}
	if found > 1 {
		t.Fatalf("%s has %d elements for %d", v.Map, found, w.values[f])
	}
	return to
}

// firstOf is what the tree must agree with.
func firstOf(leaves []leaf, w *walk) string {
	for _, l := range leaves {
		all := true
		for f, spans := range l.match {
			all = all && spans.Has(w.values[f]) && !(f == MatchMAC && w.noMAC)
		}
		if all {
			return l.to.Chain
		}
	}
	return ""
}

func someSpans(r *rand.Rand, all Span, few int) Spans {
	var spans []Span
	for range 1 + r.IntN(few) {
		a := all.First + r.Uint64N(all.Last-all.First+1)
		b := min(all.Last, a+r.Uint64N((all.Last-all.First)/4+1))
		if r.IntN(3) == 0 {
			b = a
		}
		spans = append(spans, Span{a, b})
	}
	if out := Union(spans...); r.IntN(4) == 0 {
		return Union(all).Minus(out)
	} else {
		return out
	}
}

func someMatch(r *rand.Rand, lans int) Match {
	m := Match{}
	for f := range matchFields {
		if r.IntN(3) != 0 {
			continue
		}
		switch f {
		case MatchLan:
			m[f] = someSpans(r, Span{0, uint64(lans - 1)}, 2)
		case MatchProtocol:
			m[f] = Union(Span{6, 6}, Span{17, 17})
			if r.IntN(2) == 0 {
				m[f] = someSpans(r, f.All(), 2)
			}
		default:
			m[f] = someSpans(r, f.All(), 3)
		}
	}
	if m.check() != nil {
		m[MatchProtocol] = Union(Span{6, 6}, Span{17, 17})
	}
	return m
}

// TestTreeFindsTheFirst: whatever the policies, the tree of maps gives the one
// that trying them in their order gives.
func TestTreeFindsTheFirst(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 1))
	lans := []Lan{{Name: "a", Device: "lan0"}, {Name: "b", Device: "lan1"}, {Name: "c", Device: "lan2"}}
	for round := range 300 {
		var leaves []leaf
		for i := range 1 + r.IntN(12) {
			leaves = append(leaves, leaf{someMatch(r, len(lans)), Jump{Kind: "goto", Chain: fmt.Sprint("policy_", i)}})
		}
		rules, sets, chains := classifier(lans, leaves)
		w := newWalk(lans, sets, chains)
		for range 200 {
			for f := range matchFields {
				w.values[f] = f.All().First + r.Uint64N(f.All().Last-f.All().First+1)
				// At the edges of spans it goes wrong, if at all.
				if spans := leaves[r.IntN(len(leaves))].match[f]; len(spans) > 0 && r.IntN(2) == 0 {
					s := spans[r.IntN(len(spans))]
					w.values[f] = []uint64{s.First, s.Last, max(s.First, 1) - 1, min(s.Last+1, f.All().Last)}[r.IntN(4)]
				}
			}
			w.values[MatchLan] %= uint64(len(lans))
			w.values[MatchProtocol] = []uint64{1, 6, 17, w.values[MatchProtocol]}[r.IntN(4)]
			w.noMAC = r.IntN(8) == 0
			if got, want := w.run(t, rules), firstOf(leaves, w); got != want {
				t.Fatalf("round %d, packet %v (no MAC %v): %q, first is %q; policies:\n%+v", round, w.values, w.noMAC, got, want, leaves)
			}
		}
	}
}

// TestTreeIsShallow: at 64 policies of the usual kinds a packet is asked for a few
// fields, however far down its policy stands.
func TestTreeIsShallow(t *testing.T) {
	lans := []Lan{{Name: "a", Device: "lan0"}}
	for name, match := range map[string]func(i uint64) Match{
		"destinations": func(i uint64) Match {
			return Match{MatchDestination: Union(Span{i << 24, i<<24 + 1<<20})}
		},
		"protocol and port": func(i uint64) Match {
			return Match{MatchProtocol: Union(Span{6, 6}), MatchDestinationPort: Union(Span{i * 10, i*10 + 3})}
		},
		"source and port": func(i uint64) Match {
			return Match{
				MatchSource: Union(Span{i << 8, i<<8 | 255}), MatchProtocol: Union(Span{6, 6}, Span{17, 17}),
				MatchDestinationPort: Union(Span{i, i}),
			}
		},
		"mixed": func(i uint64) Match {
			if i%2 == 0 {
				return Match{MatchDestination: Union(Span{i << 24, i<<24 + 1<<20})}
			}
			return Match{MatchProtocol: Union(Span{6, 6}), MatchDestinationPort: Union(Span{i * 10, i*10 + 3})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var leaves []leaf
			for i := range uint64(64) {
				leaves = append(leaves, leaf{match(i + 1), Jump{Kind: "goto", Chain: fmt.Sprint("policy_", i)}})
			}
			leaves = append(leaves, leaf{nil, Jump{Kind: "goto", Chain: "policy_default"}})
			rules, sets, chains := classifier(lans, leaves)
			w := newWalk(lans, sets, chains)
			for i, l := range leaves {
				w.values = [matchFields]uint64{MatchProtocol: 1}
				for f, spans := range l.match {
					w.values[f] = spans[0].First
				}
				w.asked = 0
				if got := w.run(t, rules); got != l.to.Chain || w.asked > 3 {
					t.Errorf("policy %d: %q after %d maps", i, got, w.asked)
				}
			}
			t.Logf("%d rules, %d sets, %d chains", len(rules), len(sets), len(chains))
		})
	}
}

// TestTreeStaysSmall: policies that overlap in several fields take a number of
// maps that the kernel bears, and still the first one wins.
func TestTreeStaysSmall(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 2))
	var leaves []leaf
	for i := range 64 {
		leaves = append(leaves, leaf{Match{
			MatchSource: someSpans(r, MatchSource.All(), 5), MatchDestination: someSpans(r, MatchDestination.All(), 5),
			MatchProtocol: WithPorts, MatchDestinationPort: someSpans(r, MatchDestinationPort.All(), 5), MatchDSCP: someSpans(r, MatchDSCP.All(), 3),
		}, Jump{Kind: "goto", Chain: fmt.Sprint("policy_", i)}})
	}
	rules, sets, chains := classifier(nil, leaves)
	n := 0
	for _, s := range sets {
		n += len(s.Elements)
	}
	t.Logf("%d rules, %d sets, %d chains, %d elements", len(rules), len(sets), len(chains), n)
	if len(rules) > 64 || len(sets) > 600 || n > 30000 {
		t.Error("too large")
	}
	w := newWalk(nil, sets, chains)
	for range 2000 {
		for f := range matchFields {
			w.values[f] = r.Uint64N(f.All().Last + 1)
		}
		w.values[MatchProtocol] = 6
		if got, want := w.run(t, rules), firstOf(leaves, w); got != want {
			t.Fatalf("%v: %q, first is %q", w.values, got, want)
		}
	}
}
