package balancer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// Which policy takes a new flow is found by a tree of verdict maps, not by trying
// one rule after the other: each map asks one field of the packet, and leads to
// the next for what is left of the list. So the time depends on the number of
// fields that policies look at, hardly on the number of policies. The order of
// the file is resolved here: in each map a value leads to the first policy that
// takes it.
//
// Where a tree would become too large (many policies that each look at several
// fields, all overlapping) the list is cut in two, and the second tree is asked
// if the first has no answer: at worst that is one rule a policy.
//
// Maps and chains are named after what they hold. A changed tree has other names
// where it differs, and a packet that is halfway through the old one while the
// table is exchanged goes on in it.

// leaf is a policy as the tree sees it: what it matches, and where that leads.
type leaf struct {
	match Match
	to    Jump
}

// rest is a policy on the way down: the fields that were not asked yet.
type rest struct {
	leaf int
	open fieldSet
}

// Bounds of one tree: more maps than that cost more when the table is read and
// written than they save.
const (
	treeChains   = 32    // and 4 for each policy
	treeElements = 20000 // and 4 for each span of the policies
)

// tree builds maps and chains.
type tree struct {
	lans   []Lan
	leaves []leaf
	known  map[string]Jump // by what is left of the list; an empty Jump: no answer
	sets   []Set
	chains []Chain
	names  map[string]bool
	left   int // elements that may still be made
	broken bool
}

// classifier is the rules that lead a packet to its policy, with the sets and
// chains that they need. A packet that no policy takes comes back from them.
func classifier(lans []Lan, leaves []leaf) (rules []Rule, sets []Set, chains []Chain) {
	if len(leaves) == 0 {
		return nil, nil, nil
	}
	t := &tree{lans: lans, leaves: leaves, known: map[string]Jump{}, names: map[string]bool{}, left: treeElements}
	var list []rest
	for i, l := range leaves {
		list = append(list, rest{i, l.match.fields()})
		for _, spans := range l.match {
			t.left += 4 * len(spans)
		}
	}
	rules = t.node(list)
	if !t.broken || len(leaves) == 1 {
		return rules, t.sets, t.chains
	}
	half := len(leaves) / 2
	rules, sets, chains = classifier(lans, leaves[:half])
	more, moreSets, moreChains := classifier(lans, leaves[half:])
	has := map[string]bool{}
	for _, s := range sets {
		has[s.Name] = true
	}
	for _, s := range moreSets { // the same thing has the same name
		if !has[s.Name] {
			sets = append(sets, s)
		}
	}
	for _, c := range moreChains {
		if !has[c.Name] {
			chains = append(chains, c)
		}
	}
	return append(rules, more...), sets, chains
}

// node is the rules that ask for what is left of a list.
func (t *tree) node(list []rest) []Rule {
	if to, ok := t.answer(list); ok {
		if to.Kind == "" {
			return nil
		}
		return []Rule{{to}}
	}
	field := pick(list)
	m := Set{Key: fieldKeys[field], Verdicts: true, Interval: field != MatchLan}
	for _, run := range t.runs(list, field) {
		if field == MatchLan {
			for _, d := range t.lans[run.First].devices() {
				m.Elements = append(m.Elements, Element{Ifname: d, Verdict: run.to})
			}
			continue
		}
		m.Elements = append(m.Elements, Element{Span: run.Span, Verdict: run.to})
	}
	if t.left -= len(m.Elements); t.left < 0 {
		t.broken = true
	}
	var rules []Rule
	if len(m.Elements) > 0 {
		m.tidy()
		m.Name = "match_" + digest(fmt.Sprint(field, m.Elements))
		if !t.names[m.Name] {
			t.names[m.Name] = true
			t.sets = append(t.sets, m)
		}
		rules = append(rules, Rule{VMap{By: fieldSelectors[field], Map: m.Name}})
	}
	if field == MatchMAC { // what has no Ethernet header is in no such map
		rules = append(rules, t.node(without(list, field))...)
	}
	return rules
}

// answer is where a list leads without another question.
func (t *tree) answer(list []rest) (to Jump, ok bool) {
	if len(list) == 0 {
		return Jump{}, true
	}
	if list[0].open == 0 {
		return t.leaves[list[0].leaf].to, true
	}
	return Jump{}, false
}

// lead is the verdict for what is left of a list, an empty one if nobody takes it.
func (t *tree) lead(list []rest) Jump {
	if i := slices.IndexFunc(list, func(r rest) bool { return r.open == 0 }); i >= 0 {
		list = list[:i+1] // it takes what comes to it
	}
	if to, ok := t.answer(list); ok {
		return to
	}
	key := fmt.Sprint(list)
	if to, ok := t.known[key]; ok {
		return to
	}
	if len(t.known) > treeChains+4*len(t.leaves) {
		t.broken = true
	}
	if t.broken && len(t.leaves) > 1 { // nobody will use it
		return Jump{}
	}
	to := Jump{}
	if rules := t.node(list); len(rules) > 0 {
		name := "match_" + digest(fmt.Sprint(rules))
		if !t.names[name] {
			t.names[name] = true
			t.chains = append(t.chains, Chain{Name: name, Rules: rules})
		}
		to = Jump{Kind: "jump", Chain: name}
	}
	t.known[key] = to
	return to
}

// pick is the field to ask next: the protocol where it is open, since ports come
// behind it; else the one that most of the list look at.
func pick(list []rest) Field {
	var count [matchFields]int
	for _, r := range list {
		for f := range matchFields {
			if r.open.has(f) {
				count[f]++
			}
		}
	}
	best := MatchLan
	for f := range matchFields {
		isPort := f == MatchSourcePort || f == MatchDestinationPort
		if count[f] > count[best] && !(isPort && count[MatchProtocol] > 0) {
			best = f
		}
	}
	return best
}

// without is a list without those that look at a field.
func without(list []rest, f Field) []rest {
	return slices.DeleteFunc(slices.Clone(list), func(r rest) bool { return r.open.has(f) })
}

// led is a span of values that lead to the same place.
type led struct {
	Span
	to Jump
}

// runs divides the values of a field by where they lead. Those that nobody takes
// are left out.
func (t *tree) runs(list []rest, f Field) []led {
	all := f.All()
	if f == MatchLan {
		if len(t.lans) == 0 {
			return nil
		}
		all.Last = uint64(len(t.lans) - 1)
	}
	cuts := []uint64{all.First}
	for _, r := range list {
		if !r.open.has(f) {
			continue
		}
		for _, s := range t.leaves[r.leaf].match[f] {
			cuts = append(cuts, s.First)
			if s.Last < all.Last {
				cuts = append(cuts, s.Last+1)
			}
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	at := make([]int, len(list)) // of each, the span that is next
	known := map[string]Jump{}
	var out []led
	for i, first := range cuts {
		if first > all.Last {
			break
		}
		last := all.Last
		if i+1 < len(cuts) {
			last = min(last, cuts[i+1]-1)
		}
		key := make([]byte, len(list))
		for k, r := range list {
			if !r.open.has(f) {
				key[k] = 1
				continue
			}
			spans := t.leaves[r.leaf].match[f]
			for at[k] < len(spans) && spans[at[k]].Last < first {
				at[k]++
			}
			if at[k] < len(spans) && spans[at[k]].First <= first {
				key[k] = 1
			}
		}
		to, ok := known[string(key)]
		if !ok {
			var child []rest
			for k, r := range list {
				if key[k] == 1 {
					child = append(child, rest{r.leaf, r.open &^ (1 << f)})
				}
			}
			to = t.lead(child)
			known[string(key)] = to
		}
		// (Each lan is a value of its own.)
		if n := len(out); n > 0 && f != MatchLan && out[n-1].to == to && out[n-1].Last+1 == first {
			out[n-1].Last = last
			continue
		}
		if to.Kind == "" {
			continue
		}
		if f == MatchLan {
			for v := first; v <= last; v++ {
				out = append(out, led{Span{v, v}, to})
			}
			continue
		}
		out = append(out, led{Span{first, last}, to})
	}
	return out
}

// digest names things by what they are.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}

var fieldKeys = [matchFields]KeyType{
	MatchLan: KeyIfname, MatchSource: KeyAddr4, MatchDestination: KeyAddr4, MatchProtocol: KeyProtocol,
	MatchSourcePort: KeyPort, MatchDestinationPort: KeyPort, MatchDSCP: KeyTOS, MatchMAC: KeyMAC,
}

var fieldSelectors = [matchFields]Selector{
	MatchLan: ByInput, MatchSource: BySaddr, MatchDestination: ByDaddr, MatchProtocol: ByProtocol,
	MatchSourcePort: BySport, MatchDestinationPort: ByDport, MatchDSCP: ByTOS, MatchMAC: ByMAC,
}
