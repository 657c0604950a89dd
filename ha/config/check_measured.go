package config

import (
	"cmp"
	"slices"
)

// checkMeasured finds policies whose method goes by what the file does not tell:
// how fast a line is, or where its latency is to be measured.
func (d *decoder) checkMeasured(c *Config) {
	for _, p := range c.Policies {
		at := d.facts.policies[p.Name]
		if at == nil {
			continue
		}
		var used []Uplink
		for _, u := range c.Uplinks {
			if len(p.Uplinks) == 0 || contains(p.Uplinks, u.Name) {
				used = append(used, u)
			}
		}
		switch p.Method {
		case MethodLeastUsed:
			for _, u := range used {
				if u.Down == 0 {
					d.fail(at, "policies.%s: least-used compares how much of each line is free, but uplinks.%s does not tell how fast it is; allowed: speed: {down: 100mbit} there, or another method", p.Name, u.Name)
				}
			}
		case MethodOverflow:
			for _, u := range notLast(p, used) { // from the last one nothing flows over
				if u.Down == 0 && u.Up == 0 {
					d.fail(at, "policies.%s: overflow must know when a line is full, but uplinks.%s does not tell how fast it is; allowed: speed: {down: 100mbit, up: 20mbit} there, or another method", p.Name, u.Name)
				}
			}
		case MethodLowestLatency:
			for _, u := range used {
				if len(u.Probe.Targets) == 0 {
					d.warn(at, "policies.%s: uplinks.%s has no probe targets, so lowest-latency sees the way to its gateway alone", p.Name, u.Name)
				}
			}
		case MethodFastestResponse:
			if !raced(p, used) {
				d.warn(at, "policies.%s: fastest-response has no two uplinks of one tier that have a weight and are not metered, so nothing is raced", p.Name)
			}
		case MethodWeighted, MethodPriority, MethodPersistence, MethodEnforced:
		}
	}
}

// notLast are the uplinks of a policy but the last in the order in which they
// fill: by tier, then as the policy names them.
func notLast(p Policy, used []Uplink) []Uplink {
	place := func(u Uplink) int { return slices.Index(p.Uplinks, u.Name) }
	used = slices.Clone(used)
	slices.SortStableFunc(used, func(a, b Uplink) int { return cmp.Or(cmp.Compare(a.Tier, b.Tier), place(a)-place(b)) })
	return used[:max(len(used)-1, 0)]
}

// raced tells whether two of these uplinks can ever race: those that share flows,
// but the metered ones.
func raced(p Policy, used []Uplink) bool {
	inTier := map[int]int{}
	for _, u := range used {
		weight, own := p.Weights[u.Name]
		if !own {
			weight = u.Weight
		}
		if !u.Metered && weight > 0 {
			inTier[u.Tier]++
		}
	}
	for _, n := range inTier {
		if n > 1 {
			return true
		}
	}
	return false
}
