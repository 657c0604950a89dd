package balancer

import (
	"cmp"
	"hash/fnv"
	"math"
	"slices"
)

// SlotCount is how many shares a policy has.
const SlotCount = 256

// share is a candidate for slots.
type share struct {
	name   string
	id     int
	weight int
	usable bool
	// degraded: it counts with a quarter of its weight, unless all others are
	// degraded too.
	degraded bool
}

// Quota divides n by weights: each gets round(n·w/Σw) by the largest
// remainder, ties go to the earlier one. With all weights 0 each counts 1.
func Quota(weights []int, n int) []int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	quota := make([]int, len(weights))
	if len(weights) == 0 {
		return quota
	}
	weight := func(i int) int { return weights[i] }
	if sum == 0 {
		sum, weight = len(weights), func(int) int { return 1 }
	}
	rest := n
	order := make([]int, len(weights))
	for i := range weights {
		quota[i] = n * weight(i) / sum
		rest -= quota[i]
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(n*weight(b)%sum, n*weight(a)%sum)
	})
	for _, i := range order[:rest] {
		quota[i]++
	}
	return quota
}

// score ranks an uplink for a slot (rendezvous hashing): FNV-1a over name and
// slot, stirred by the finalizer of MurmurHash3 since FNV spreads the last byte
// badly. It is part of the contract between nodes: a change makes two versions
// route differently.
func score(name string, slot int) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	h.Write([]byte{0, byte(slot)})
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// assign hands out the slots. First as if every share were up: all pairs of
// slot and uplink in the order of their score, each slot to the first that has
// quota left. Then the quotas shrink of those that are not usable, to nothing,
// and of those that are degraded; the slots in which these score worst go to
// the others in the same way, within the quotas as they are now.
//
// So the map depends on nothing but names, ids, weights and verdicts: every node
// gets the same, and when an uplink is well again the former map is back. A death
// moves the slots of the dead one, degradation those that it loses; of the
// others' none, but one per uplink at most where rounding takes it from them, and
// a few where slots of one that was down before come to lie elsewhere.
func assign(shares []share) [SlotCount]int {
	shares = slices.Clone(shares)
	slices.SortFunc(shares, func(a, b share) int { return cmp.Compare(a.id, b.id) })
	var pairs []bid
	for i, s := range shares {
		for slot := range SlotCount {
			pairs = append(pairs, bid{score(s.name, slot), slot, i})
		}
	}
	slices.SortFunc(pairs, func(a, b bid) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.slot, b.slot), cmp.Compare(a.who, b.who))
	})

	var owner [SlotCount]int // index of the share + 1
	healthy := slices.Clone(shares)
	for i := range healthy {
		healthy[i].usable, healthy[i].degraded = true, false
	}
	fill(&owner, pairs, quotas(healthy))
	left := quotas(shares)
	for _, p := range pairs { // best first: what is over its quota loses its worst
		if owner[p.slot] != p.who+1 {
			continue
		}
		if left[p.who] == 0 {
			owner[p.slot] = 0
			continue
		}
		left[p.who]--
	}
	fill(&owner, pairs, left)

	var slots [SlotCount]int
	for slot, who := range owner {
		if who > 0 {
			slots[slot] = shares[who-1].id
		}
	}
	return slots
}

type bid struct {
	score uint64
	slot  int
	who   int
}

// fill gives the slots without an owner to whom they score best with, as long
// as he has quota left.
func fill(owner *[SlotCount]int, pairs []bid, left []int) {
	for _, p := range pairs {
		if owner[p.slot] == 0 && left[p.who] > 0 {
			owner[p.slot] = p.who + 1
			left[p.who]--
		}
	}
}

// quotas are the numbers of slots of the shares: none of those that are not
// usable, by a quarter of the weight of those that are degraded.
func quotas(shares []share) []int {
	var weights, who []int
	sum := 0
	for i, s := range shares {
		if s.usable {
			weights, who = append(weights, s.weight), append(who, i)
			sum += s.weight
		}
	}
	for k, i := range who {
		if sum == 0 { // all have weight 0: they count alike
			weights[k] = 1
		}
		v := Up
		if shares[i].degraded {
			v = Degraded
		}
		weights[k] = v.UsableWeight(weights[k])
	}
	out := make([]int, len(shares))
	for i, q := range Quota(weights, SlotCount) {
		out[who[i]] = q
	}
	return out
}

// outcome is what a policy does with a new flow.
type outcome uint8

const (
	spreads  outcome = iota // by its slots
	bypasses                // the main table leads
	passes                  // the next policy
	drops
)

var outcomeNames = [...]string{spreads: "spreads", bypasses: "bypasses", passes: "passes", drops: "drops"}

func (o outcome) String() string { return outcomeNames[o] }

// slots is what policy i does, with its map from slot to uplink id; all 0 if it
// has no uplink.
//
// Only the lowest tier with a usable uplink counts, and a degraded one is usable:
// a line that is full makes its own probes slow, and the next tier may cost by
// the byte. Within the tier a degraded uplink has a quarter of its weight, or
// with Priority comes after those that are not degraded. Who wants another line
// before a bad one puts both in one tier. Where weights were measured, there are
// no tiers: the measure has seen to them.
//
// Enforced takes its uplink up or down, unless it says what else to do: so no
// packet of it ever goes another way. One that is disabled by hand is not used
// even then.
func (c *Config) slots(i int, in Input) ([SlotCount]int, outcome) {
	p := c.Policies[i]
	var none [SlotCount]int
	if in.Closed[p.Name] {
		return none, passes
	}
	if p.Bypass {
		return none, bypasses
	}
	members := c.members(p)
	enabled := func(u Uplink) bool { return in.Verdicts[u.Name] != Disabled }
	usable := func(u Uplink) bool { return in.Usable[u.Name] && enabled(u) }
	last := i == len(c.Policies)-1
	switch {
	case slices.ContainsFunc(members, usable):
	case p.Method == Enforced && p.WhenNone == NoneDrop:
		if usable = enabled; !slices.ContainsFunc(members, usable) {
			return none, drops
		}
	case p.WhenNone == NoneDrop:
		return none, drops
	case p.WhenNone == NoneAny && slices.ContainsFunc(c.Uplinks, usable):
		members, p.Weights, p.Method = c.Uplinks, nil, Weighted
	case p.WhenNone == NoneNext && !last:
		return none, passes
	default: // nothing is withdrawn (DESIGN.md §5 row 9)
		usable = enabled
	}
	shares := c.measured(p, members, in, usable)
	if shares == nil {
		shares = c.weighed(p, members, in, usable)
	}
	return assign(shares), spreads
}

// weighed are the shares by the weights of the file.
func (c *Config) weighed(p Policy, members []Uplink, in Input, usable func(Uplink) bool) []share {
	tier := -1
	for _, u := range members {
		if usable(u) && (tier < 0 || u.Tier < tier) {
			tier = u.Tier
		}
	}
	var shares []share
	for _, u := range members {
		if u.Tier != tier {
			continue
		}
		w := u.Weight
		if own, ok := p.Weights[u.Name]; ok {
			w = own
		}
		shares = append(shares, share{
			name: u.Name, id: u.ID, weight: w, usable: usable(u), degraded: in.Verdicts[u.Name] == Degraded,
		})
	}
	if p.Method == Priority || p.Method == Overflow { // not full, as long as nobody measures
		shares = first(shares)
	}
	return shares
}

// grain is what the greatest of measured weights counts as.
const grain = 1 << 16

// measured are the shares by measured weights; nil if there are none, or only for
// uplinks that cannot be used.
func (c *Config) measured(p Policy, members []Uplink, in Input, usable func(Uplink) bool) []share {
	var greatest float64
	for _, u := range members {
		if w := in.Shares[p.Name][u.Name]; usable(u) && w > greatest { // (not of what is no number)
			greatest = w
		}
	}
	if greatest <= 0 || math.IsInf(greatest, 0) {
		return nil
	}
	var shares []share
	for _, u := range members {
		w := 0
		if m := in.Shares[p.Name][u.Name]; m > 0 {
			w = int(math.Round(min(m/greatest, 1) * grain))
		}
		shares = append(shares, share{name: u.Name, id: u.ID, weight: w, usable: usable(u) && w > 0})
	}
	return shares
}

// first keeps the first usable share that is not degraded, else the first that
// is usable.
func first(shares []share) []share {
	well := func(s share) bool { return s.usable && !s.degraded }
	usable := func(s share) bool { return s.usable }
	for _, good := range []func(share) bool{well, usable} {
		if i := slices.IndexFunc(shares, good); i >= 0 {
			return shares[i : i+1]
		}
	}
	return nil
}
