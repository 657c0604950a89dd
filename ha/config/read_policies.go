package config

import "time"

func (d *decoder) policies(t *table, uplinks []Uplink, lans []Lan) []Policy {
	var all []Policy
	first := map[string]*value{}
	t.rows("policies", func(row *table, _ int) {
		p, at := d.policy(row, uplinks, lans)
		if was := first[p.Name]; was != nil && p.Name != "" {
			d.fail(at, "policies: the name %s stands twice (first in line %d); allowed: once", p.Name, was.line)
		} else if first[DefaultPolicy] != nil {
			d.fail(at, "%s stands behind the policy default, which takes everything; allowed: default as the last one", row.path)
		}
		if first[p.Name] == nil {
			first[p.Name] = at
		}
		written := row.field("match").v
		if p.Name != "" && first[DefaultPolicy] == nil && p.all() && (written == nil || len(written.entries) == 0) {
			d.warn(at, "%s takes everything, since it has no match: no policy behind it is used", row.path)
		}
		all = append(all, p)
	})
	if first[DefaultPolicy] == nil {
		all = append(all, defaultPolicy(DefaultPolicy))
	}
	d.facts.policies = first
	return all
}

func (d *decoder) policy(row *table, uplinks []Uplink, lans []Lan) (p Policy, at *value) {
	p, at = defaultPolicy(""), row.at
	if f := take(row, "name", &p.Name, name(maxName)).required("a name; default for the one that stands last"); f.ok {
		row.path, at = "policies."+p.Name, f.v
	}
	d.match(row.sub("match"), &p.Match, lans)
	if f := row.field("match"); !p.all() && p.Name == DefaultPolicy {
		d.fail(f.key, "%s: default takes what no other policy takes; allowed: a match in a policy with another name, before it", f.path())
	}
	method := take(row, "method", &p.Method, oneOf(MethodWeighted, MethodPriority, MethodOverflow, MethodPersistence,
		MethodLeastUsed, MethodLowestLatency, MethodEnforced, MethodFastestResponse))
	if p.Method == MethodEnforced {
		p.WhenNone = NoneDrop
	}
	d.policyUplinks(row, &p, uplinks)
	if n := len(p.Uplinks); p.Method == MethodEnforced && n != 1 && (n > 1 || len(uplinks) != 1) {
		d.fail(method.v, "%s: enforced has one uplink, up or down; allowed: one name in %s.uplinks", method.path(), row.path)
	}
	if f := take(row, "bypass", &p.Bypass, boolean); f.ok && p.Bypass && (method.v != nil || len(p.Uplinks) > 0 || len(p.Weights) > 0) {
		d.fail(f.v, "%s: what the main table leads has no method, uplinks or weights; allowed: bypass alone, or these", f.path())
	}
	persistence := d.persistence(row.sub("persistence"), &p)
	if persistence != nil && p.Method != MethodPersistence {
		d.fail(persistence, "%s.persistence: it belongs to the method persistence; allowed: method: persistence, or remove it", row.path)
	}
	d.overflow(row.sub("overflow"), &p.Overflow)
	d.margin(row.sub("latency_margin"), &p.LatencyMargin)
	if f := take(row, "race", &p.Race, oneOf(RaceLearn, RaceHold)); p.Race == RaceHold && p.Method != MethodFastestResponse {
		d.warn(f.v, "%s: it belongs to the method fastest-response", f.path())
	}
	take(row, "when_none", &p.WhenNone, oneOf(NoneNext, NoneDrop, NoneAny))
	take(row, "on_recovery", &p.OnRecovery, oneOf(RecoveryKeep, RecoveryMove))
	return p, at
}

// policyUplinks reads uplinks and weights; each must be an uplink of the file.
func (d *decoder) policyUplinks(row *table, p *Policy, uplinks []Uplink) {
	var names []string
	for _, u := range uplinks {
		if u.Name != "" {
			names = append(names, u.Name)
		}
	}
	known := func(v *value, path string) bool {
		ok := contains(names, v.text)
		if !ok {
			d.fail(v, "%s: there is no uplink %s%s; allowed: %s", path, quote(v.text), didYouMean(v.text, names), join(names))
		}
		return ok
	}
	used := names
	first := map[string]bool{}
	f := each(row, "uplinks", text(maxName), func(v *value, u string) {
		if known(v, join2(row.path, "uplinks")) && first[u] {
			d.fail(v, "%s.uplinks: %s stands twice; allowed: once", row.path, u)
		}
		first[u] = true
		p.Uplinks = append(p.Uplinks, u)
	})
	if f.v != nil {
		used = p.Uplinks
	}
	if f.empty() {
		d.fail(f.at(), "%s: none stands here; allowed: names of uplinks, or leave the key out for all", f.path())
	}
	weights := row.sub("weights")
	for _, e := range weights.all() {
		path := join2(weights.path, e.key.text)
		w, err := number(0, 255)(e.value)
		switch {
		case err != nil:
			d.refuse(e.value, path, err)
		case !known(e.key, weights.path):
		case !contains(used, e.key.text):
			d.fail(e.key, "%s: this policy does not use it; allowed: %s", path, join(used))
		default:
			if p.Weights == nil {
				p.Weights = map[string]int{}
			}
			p.Weights[e.key.text] = w
		}
	}
}

// persistence tells where it stands, nil if it says no more than the default.
func (d *decoder) persistence(t *table, policy *Policy) *value {
	defer t.close()
	p := &policy.Persistence
	was := *p
	take(t, "by", &p.By, oneOf(BySourceDestination, BySource, ByDestination))
	take(t, "learned", &p.Learned, boolean)
	f := take(t, "timeout", &p.Timeout, duration(time.Second, 24*time.Hour, time.Second))
	if policy.Method == MethodFastestResponse { // it is how long a winner is remembered
		was.Timeout = p.Timeout
	} else if f.changed && !p.Learned {
		d.warn(f.v, "%s: without learned: true nothing is remembered, so nothing times out", f.path())
	}
	if *p == was {
		return nil
	}
	return t.entries[0].key
}

func (d *decoder) overflow(t *table, o *Overflow) {
	defer t.close()
	enter := take(t, "enter", &o.Enter, fraction)
	leave := take(t, "leave", &o.Leave, fraction)
	take(t, "hold", &o.Hold, duration(0, time.Hour, 1))
	switch {
	case enter.ok && o.Enter == 0:
		d.fail(enter.v, "%s: a line would be full when nothing passes; allowed: more than that, such as 90%%", enter.path())
	case (enter.v == nil || enter.ok) && (leave.v == nil || leave.ok) && o.Leave >= o.Enter:
		f := leave
		if leave.v == nil {
			f = enter
		}
		d.fail(f.at(), "%s: leave (%s) is not below enter (%s); allowed: less than that, so that a line does not fill and empty by turns", t.path, show(o.Leave), show(o.Enter))
	}
}

func (d *decoder) margin(t *table, m *LatencyMargin) {
	defer t.close()
	take(t, "percent", &m.Percent, number(0, 1000))
	take(t, "time", &m.Time, duration(0, time.Minute, 1))
	take(t, "rounds", &m.Rounds, number(1, 1000))
}
