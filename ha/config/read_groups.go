package config

import (
	"slices"
	"strings"

	"harouter/balancer"
)

// Words for all lans and all uplinks in a group.
const everyLan, everyUplink = ":lans", ":uplinks"

// groups reads who may talk to whom. The names are looked at when all are known.
func (d *decoder) groups(t *table, c *Firewall) {
	f := take(t, "groups", &c.Groups, listOf(listOf(text(maxName+1))))
	if f.ok {
		d.facts.groups = f.v
	}
}

// checkGroups: each names lans and uplinks that are there; no lan is cut off by an
// oversight, nor led by a policy to an uplink that it may not use.
func (d *decoder) checkGroups(c *Config) {
	all := d.facts.groups
	if all == nil || len(c.Firewall.Groups) == 0 {
		return
	}
	var lans, uplinks []string
	for _, l := range c.Lans {
		lans = append(lans, l.Name)
	}
	for _, u := range c.Uplinks {
		uplinks = append(uplinks, u.Name)
	}
	words := slices.Concat([]string{everyLan, everyUplink}, lans, uplinks)
	wrong := false
	for _, g := range all.items {
		if len(g.items) == 0 {
			wrong = true
			d.fail(g, "firewall.groups: an empty group; allowed: names of lans and uplinks, such as [office, %s]", everyUplink)
		}
		for _, w := range g.items {
			if !contains(words, w.text) {
				wrong = true
				d.fail(w, "firewall.groups: there is no lan or uplink %s%s; allowed: %s", quote(w.text), didYouMean(w.text, words), join(words))
			}
		}
	}
	switch {
	case wrong:
		return
	case !c.Firewall.Enabled:
		d.warn(all, "firewall.groups: the firewall is off, so nobody is refused")
		return
	}
	groups := c.Groups()
	for _, lan := range lans {
		switch other := d.elsewhere(c, groups, lan, uplinks); {
		case !slices.ContainsFunc(groups, func(g []string) bool { return slices.Contains(g, lan) }):
			d.warn(all, "firewall.groups: lan %s is in no group: what it begins reaches no other lan and no uplink; if that is meant, write [%s]", lan, lan)
		case other != "":
			d.warn(all, "firewall.groups: %s", other)
		}
	}
}

// Groups are those of the firewall with every name written out.
func (c *Config) Groups() balancer.Groups {
	var out balancer.Groups
	for _, g := range c.Firewall.Groups {
		var names []string
		for _, w := range g {
			switch w {
			case everyLan:
				for _, l := range c.Lans {
					names = append(names, l.Name)
				}
			case everyUplink:
				for _, u := range c.Uplinks {
					names = append(names, u.Name)
				}
			default:
				names = append(names, w)
			}
		}
		out = append(out, names)
	}
	return out
}

// elsewhere tells which policy leads a lan to uplinks that are refused to it; a
// lan that may use none meant to have none.
func (d *decoder) elsewhere(c *Config, groups balancer.Groups, lan string, uplinks []string) string {
	refused := func(u string) bool { return !groups.Allows(lan, u) }
	if !slices.ContainsFunc(uplinks, func(u string) bool { return !refused(u) }) {
		return ""
	}
	for _, p := range c.Policies {
		if p.Match.Router || p.Bypass || !p.Match.mayBeFrom(lan) {
			continue
		}
		members := p.Uplinks
		if len(members) == 0 {
			members = uplinks
		}
		if i := slices.IndexFunc(members, refused); i >= 0 {
			var may []string
			for _, u := range uplinks {
				if !refused(u) {
					may = append(may, u)
				}
			}
			return "lan " + lan + " may not use " + members[i] + ", but policy " + p.Name + " leads it there too, which is refused; before that one, write {name: " +
				lan + "-only, match: {lan: " + lan + "}, uplinks: [" + strings.Join(may, ", ") + "], when_none: drop}"
		}
		if p.Match.isAllOf(lan) {
			return ""
		}
	}
	return ""
}

// mayBeFrom tells whether traffic of a lan can match.
func (m Match) mayBeFrom(lan string) bool {
	some, hit := false, false
	for _, t := range m.Lan {
		switch {
		case t.Not && t.Value == lan:
			return false
		case !t.Not:
			some, hit = true, hit || t.Value == lan
		}
	}
	return hit || !some
}

// isAllOf tells whether all traffic of a lan matches.
func (m Match) isAllOf(lan string) bool {
	rest := len(m.Source) + len(m.Destination) + len(m.Protocol) + len(m.SourcePorts) + len(m.DestinationPorts) + len(m.DSCP) + len(m.MAC) + len(m.Time)
	return m.mayBeFrom(lan) && rest == 0 && !m.Router
}
