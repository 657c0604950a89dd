package balancer

import (
	"slices"
	"time"
)

// LearnedSize is how many places a policy with Learned remembers for each uplink.
const LearnedSize = 65535

// doing is what a policy does now.
type doing struct {
	Policy
	outcome
	slots [SlotCount]int
}

// doings are all policies with what they do, in the order of the file.
func (c *Config) doings(in Input) []doing {
	out := make([]doing, len(c.Policies))
	for i, p := range c.Policies {
		slots, o := c.slots(i, in)
		out[i] = doing{p, o, slots}
	}
	return out
}

// shares are the parts of the slots by uplink name, 0…1.
func (c *Config) shares(slots [SlotCount]int) map[string]float64 {
	out := map[string]float64{}
	for _, u := range c.Uplinks {
		out[u.Name] = float64(slotsOf(slots, u.ID)) / SlotCount
	}
	return out
}

// slotsOf is how many slots an uplink has.
func slotsOf(slots [SlotCount]int, id int) int {
	n := 0
	for _, owner := range slots {
		if owner == id {
			n++
		}
	}
	return n
}

// Enforces tells that only policies that want an uplink up or down lead there: so
// its flows have nowhere else to go, and none is helped by its end.
func (c *Config) Enforces(uplink string) bool {
	enforced := false
	for _, p := range c.Policies {
		member := slices.ContainsFunc(c.members(p), func(u Uplink) bool { return u.Name == uplink })
		switch {
		case p.Bypass || !member && p.WhenNone != NoneAny:
		case p.Method != Enforced || p.WhenNone != NoneDrop:
			return false
		default:
			enforced = enforced || member
		}
	}
	return enforced
}

// concerns tells that a policy is asked for this traffic: that of the lans, or
// that of the nodes, which the last policy takes too.
func concerns(does []doing, i int, router bool) bool {
	return does[i].outcome != passes && (does[i].Router == router || i == len(does)-1)
}

// search is how a new flow of a lan finds its uplink: the rules of the chain
// classify, and what they need.
type search struct {
	rules    []Rule
	sets     []Set
	chains   []Chain
	ofNodes  string // chain for packets that other nodes send out through this one
	byLan    []Rule // for those of them that come by a lan, where ofNodes is another chain than the lans'
	unmarked Rule   // for a new flow towards an uplink that got no mark
	lost     Rule   // for a packet that nothing was picked for
	invalid  []Rule // and for one that belongs to nothing
}

// classify makes the chains of the policies and the trees that lead to them.
func (c *Config) classify(does []doing, in Input) search {
	w := search{ofNodes: "lan", unmarked: Rule{Counter{}, Jump{Kind: "drop"}}, lost: Rule{Jump{Kind: "accept"}}}
	has := map[string]bool{}
	add := func(rules []Rule, sets []Set, chains []Chain) []Rule {
		for _, s := range sets {
			if !has["set "+s.Name] {
				has["set "+s.Name] = true
				w.sets = append(w.sets, s)
			}
		}
		for _, ch := range chains {
			if !has["chain "+ch.Name] {
				has["chain "+ch.Name] = true
				w.chains = append(w.chains, ch)
			}
		}
		return rules
	}
	var lans, nodes, aside []leaf
	if slices.ContainsFunc(c.Uplinks, c.leadsOut) {
		w.lost = Rule{Jump{Kind: "goto", Chain: lostChain}}
		w.invalid = []Rule{{State{CtInvalid}, FibType{Type: "unicast"}, Jump{Kind: "goto", Chain: strayChain}}}
	}
	for i, d := range does {
		if d.outcome == passes {
			continue
		}
		to := Jump{Kind: "goto", Chain: "policy_" + d.Name}
		if concerns(does, i, false) {
			lans = append(lans, leaf{d.Match, to})
			if d.outcome == bypasses {
				aside = append(aside, leaf{d.Match, Jump{Kind: "accept"}})
			} else {
				aside = append(aside, leaf{d.Match, Jump{Kind: "goto", Chain: "unpicked"}})
			}
		}
		if concerns(does, i, true) {
			nodes = append(nodes, leaf{d.Match, to})
		}
		add(nil, c.policySets(d, in), c.policyChains(d, in, w.lost))
	}
	w.rules = add(classifier(c.Lans, lans))
	if slices.ContainsFunc(does, func(d doing) bool { return d.Router && d.outcome != passes }) {
		w.ofNodes = "node"
		w.byLan = []Rule{{InSet{Not: true, Set: "wan_if"}, AddrIn{Set: "nodes"}, Jump{Kind: "goto", Chain: w.ofNodes}}}
		add(nil, nil, []Chain{
			{Name: "node", Rules: append([]Rule{
				{VMap{By: ByCtMark, Mask: c.MarkMask, Map: "restore"}},
				{State{CtNew}, FibType{Not: true, Type: "local"}, Jump{Kind: "goto", Chain: "classify_node"}},
			}, w.invalid...)},
			{Name: "classify_node", Rules: add(classifier(nil, nodes))},
		})
	}
	// What goes by the main table has no mark. It is found once more, so that what
	// has none because nothing was picked for it goes nowhere.
	last := len(aside) - 1
	for ; last >= 0 && aside[last].to.Kind != "accept"; last-- {
	}
	if last >= 0 {
		w.unmarked = Rule{Jump{Kind: "goto", Chain: "unmarked"}}
		rules := []Rule{{ProtoIn{Not: true, Set: SetActive}, Counter{}, Jump{Kind: "drop"}}}
		rules = append(rules, add(classifier(c.Lans, aside[:last+1]))...)
		add(nil, nil, []Chain{
			{Name: "unmarked", Rules: append(rules, Rule{Jump{Kind: "goto", Chain: "unpicked"}})},
			{Name: "unpicked", Rules: []Rule{{Counter{}, Jump{Kind: "drop"}}}},
		})
	}
	// For those of a policy that has no uplink the search has been: a second one
	// would find the same, and be more jumps behind each other than the kernel has
	// room for (16).
	add(nil, nil, c.lost(lostChain, Rule{Counter{}, Jump{Kind: "drop"}}))
	add(nil, nil, c.lost(strayChain, w.unmarked))
	return w
}

// LearnedSet is a set of the table in which a policy's rules remember who went to
// an uplink. What it holds is no part of the plan: the kernel learns it, and other
// nodes are told of it.
type LearnedSet struct {
	Name           string
	Policy, Uplink string
	Of             PersistenceKey
	Lasts          time.Duration
}

func (c *Config) learned(does []doing, in Input) []LearnedSet {
	var out []LearnedSet
	for _, d := range does {
		if d.races() {
			for _, u := range c.racers(d, in) {
				out = append(out, LearnedSet{learnedSet(d.Name, u.Name), d.Name, u.Name, ByDestination, d.Learned})
			}
		}
		if d.learns() {
			for _, u := range c.learners(d, in) {
				out = append(out, LearnedSet{learnedSet(d.Name, u.Name), d.Name, u.Name, d.Persistence, d.Learned})
			}
		}
	}
	return out
}

// learnedSet is where a policy remembers whom it sent to an uplink. It goes when
// the uplink does, with all that it knew.
func learnedSet(policy, uplink string) string { return "learned_" + policy + "/" + uplink }

func (d doing) learns() bool { return d.outcome == spreads && d.Method == Persistence && d.Learned > 0 }

// policySets are a policy's slots, and the sets of what it learned.
func (c *Config) policySets(d doing, in Input) []Set {
	if d.outcome != spreads {
		return nil
	}
	slots := Set{Name: "slots_" + d.Name, Key: KeySlot, Verdicts: true, Room: SlotCount}
	holds := c.holds(d, in)
	for slot, id := range d.slots {
		for _, u := range c.Uplinks {
			if u.ID != id {
				continue
			}
			to := "up_" + u.Name
			if d.learns() {
				to = "learn_" + d.Name + "/" + u.Name
			}
			if d.spills() {
				to = overChain(d.Name, u.Name)
			}
			if holds {
				to = holdChain(d.Name, u.Name)
			}
			slots.Elements = append(slots.Elements, Element{Mark: uint32(slot), Verdict: Jump{Kind: "goto", Chain: to}})
		}
	}
	out := []Set{slots}
	if d.races() {
		return append(out, c.raceSets(d, in)...)
	}
	if !d.learns() {
		return out
	}
	key := KeyAddr4
	if d.Persistence == BySourceDestination {
		key = KeyPair
	}
	for _, u := range c.learners(d, in) {
		out = append(out, Set{Name: learnedSet(d.Name, u.Name), Key: key, Timeout: true, Lasts: d.Learned, Volatile: true})
	}
	return out
}

// learners are the uplinks that a policy with Learned may lead flows to: those
// that have slots, and those that had some and are still usable, unless flows are
// to leave these as soon as a better one is back.
func (c *Config) learners(d doing, in Input) []Uplink {
	var out []Uplink
	members := c.members(d.Policy)
	for _, u := range c.Uplinks {
		member := slices.ContainsFunc(members, func(m Uplink) bool { return m.ID == u.ID })
		if slotsOf(d.slots, u.ID) > 0 || !d.Move && member && in.Usable[u.Name] && in.Verdicts[u.Name] != Disabled {
			out = append(out, u)
		}
	}
	return out
}

// policyChains are the chain that a policy's flows come to, and those that
// remember. lost is for what it has no uplink for.
func (c *Config) policyChains(d doing, in Input, lost Rule) []Chain {
	end := Jump{Kind: "accept"} // of the search, not of the packet's way
	var rules []Rule
	var more []Chain
	switch d.outcome {
	case bypasses:
		rules = []Rule{{Counter{}, end}}
	case drops: // where the main table leads it to a lan, or the like, it is free to go
		rules = []Rule{append(Rule{Counter{}}, lost...)}
	case passes:
	case spreads:
		if d.learns() {
			for _, u := range c.learners(d, in) {
				set := learnedSet(d.Name, u.Name)
				learn := Jump{Kind: "goto", Chain: "learn_" + d.Name + "/" + u.Name}
				rules = append(rules, Rule{Learned{d.Persistence, set}, learn})
				more = append(more, Chain{Name: learn.Chain, Rules: []Rule{
					{Learn{d.Persistence, set, d.Learned}}, {Jump{Kind: "goto", Chain: "up_" + u.Name}},
				}})
			}
		}
		if d.races() {
			rules = c.raceRules(d, in)
		}
		if c.holds(d, in) {
			more = c.holdChains(d)
		}
		if d.spills() {
			more = c.spillChains(d, in)
		}
		find := VMap{By: ByRandom, Map: "slots_" + d.Name}
		if d.Method == Persistence {
			find.By, find.Of = ByHash, d.Persistence
		}
		// Nothing was picked: old kernels may miss an element that is being
		// exchanged. Once more, then it is counted, and dropped.
		rules = append(rules, Rule{find}, Rule{find}, append(Rule{Counter{}}, lost...))
	}
	return append([]Chain{{Name: "policy_" + d.Name, Rules: rules}}, more...)
}
