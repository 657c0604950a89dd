package balancer

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// SlotCount is how many shares a policy has.
const SlotCount = 256

// share is a candidate for slots.
type share struct {
	name   string
	id     int
	weight int
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

// assign hands out the slots within the quotas: all pairs of slot and uplink
// in the order of their score, each slot to the first that has quota left. It
// depends on nothing but names, ids and weights, so that every node gets the
// same map, and most slots keep their owner when weights change.
func assign(shares []share) [SlotCount]int {
	shares = slices.Clone(shares)
	slices.SortFunc(shares, func(a, b share) int { return cmp.Compare(a.id, b.id) })
	weights := make([]int, len(shares))
	for i, s := range shares {
		weights[i] = s.weight
	}
	left := Quota(weights, SlotCount)
	type pair struct {
		score uint64
		slot  int
		who   int
	}
	pairs := make([]pair, 0, SlotCount*len(shares))
	for i, s := range shares {
		for slot := range SlotCount {
			pairs = append(pairs, pair{score(s.name, slot), slot, i})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.slot, b.slot), cmp.Compare(a.who, b.who))
	})
	var slots [SlotCount]int
	for _, p := range pairs {
		if slots[p.slot] == 0 && left[p.who] > 0 {
			slots[p.slot] = shares[p.who].id
			left[p.who]--
		}
	}
	return slots
}

// slots is a policy's map from slot to uplink id; all 0 if it has no uplink.
func (c *Config) slots(p Policy, in Input) [SlotCount]int {
	var members []Uplink
	for _, u := range c.members(p) {
		if in.Usable[u.Name] && in.Verdicts[u.Name] != Disabled {
			members = append(members, u)
		}
	}
	if len(members) == 0 { // nothing is withdrawn (DESIGN.md §5 row 9)
		for _, u := range c.members(p) {
			if in.Verdicts[u.Name] != Disabled {
				members = append(members, u)
			}
		}
	}
	if len(members) == 0 {
		return [SlotCount]int{}
	}
	tier := slices.MinFunc(members, func(a, b Uplink) int { return cmp.Compare(a.Tier, b.Tier) }).Tier
	var shares []share
	for _, u := range members {
		if u.Tier != tier || p.Method == Priority && len(shares) == 1 {
			continue
		}
		w := u.Weight
		if own, ok := p.Weights[u.Name]; ok {
			w = own
		}
		shares = append(shares, share{name: u.Name, id: u.ID, weight: w})
	}
	return assign(shares)
}

// shares are the parts of the slots by uplink name, 0…1.
func (c *Config) shares(slots [SlotCount]int) map[string]float64 {
	out := map[string]float64{}
	for _, u := range c.Uplinks {
		n := 0
		for _, id := range slots {
			if id == u.ID {
				n++
			}
		}
		out[u.Name] = float64(n) / SlotCount
	}
	return out
}
