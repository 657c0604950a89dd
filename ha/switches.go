package ha

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"harouter/balancer"
)

// Switch is an operator's word on an uplink. The one with the highest number
// holds, of two alike that of the later name, so that all nodes agree whatever
// they heard first; a clock has no part in it.
type Switch struct {
	Off    bool   `json:"off"`
	Number uint64 `json:"number"`
	By     string `json:"by"` // the node on which it was said
}

func (s Switch) after(o Switch) bool {
	return s.Number > o.Number || s.Number == o.Number && s.By > o.By
}

// switching is a change of a switch that is under way: first it is kept here,
// then the others take it.
type switching struct {
	id     uint64
	uplink string
	to     Switch
	kept   bool
	until  time.Time // kept: for the others
	answer func(string)
}

// switchLimit is how long the other nodes may take.
const switchTold = 2 * time.Second

// off tells whether an operator disabled an uplink, as far as this node knows.
func (m *Machine) off(uplink string) bool { return m.switches[uplink].Off }

// turn begins to enable or disable an uplink, on all nodes.
func (m *Machine) turn(uplink string, off bool, answer func(string)) {
	var enabled []string
	for _, u := range m.cfg.Balancer.Uplinks {
		if !m.off(u.Name) {
			enabled = append(enabled, u.Name)
		}
	}
	switch {
	case m.uplink(uplink).Name == "":
		answer(fmt.Sprintf("no uplink is called %q; nothing changed", uplink))
		return
	case m.switching != nil:
		answer(fmt.Sprintf("%s is being switched on %s at this moment, try again; nothing changed", m.switching.uplink, m.cfg.Node))
		return
	case off == m.off(uplink):
		answer("")
		return
	case off && len(enabled) == 1:
		answer(uplink + " is the last uplink that is enabled, without it nothing would reach the internet: enable another one first; nothing changed")
		return
	}
	m.nextID++
	m.switching = &switching{
		id: m.nextID, uplink: uplink, answer: answer,
		to: Switch{Off: off, Number: m.switches[uplink].Number + 1, By: m.cfg.Node},
	}
	all := maps.Clone(m.switches)
	all[uplink] = m.switching.to
	m.do(KeepSwitches{ID: m.switching.id, Switches: all})
}

// onSwitchesKept goes on once the switch would outlive a restart.
func (m *Machine) onSwitchesKept(ev SwitchesKept, now time.Time) {
	s := m.switching
	if s == nil || s.id != ev.ID {
		return
	}
	if ev.Err != nil {
		m.switching = nil
		s.answer(fmt.Sprintf("%s cannot be remembered on %s: %v; nothing changed", words(s.to.Off)+" "+s.uplink, m.cfg.Node, ev.Err))
		return
	}
	s.kept, s.until = true, now.Add(switchTold)
	if m.uplink(s.uplink).Name != "" && s.to.after(m.switches[s.uplink]) {
		m.record("operator", "uplink "+s.uplink, words(!s.to.Off), words(s.to.Off), "asked on "+m.cfg.Node)
		m.switches[s.uplink] = s.to
	}
}

func words(off bool) string {
	if off {
		return "disabled"
	}
	return "enabled"
}

// settleSwitches takes the others' word where it is later, and answers the
// operator once all have his.
func (m *Machine) settleSwitches(now time.Time) {
	heard := false
	for _, n := range m.cfg.Nodes {
		p := m.peers[n.Name]
		if p == nil || !p.told || !p.alive(now) {
			continue
		}
		for name, s := range p.state.Switches {
			if m.uplink(name).Name != "" && s.after(m.switches[name]) {
				m.switches[name], heard = s, true
			}
		}
	}
	if heard {
		m.do(KeepSwitches{Switches: maps.Clone(m.switches)})
	}
	s := m.switching
	if s == nil || !s.kept {
		return
	}
	var late []string
	for _, n := range m.cfg.Nodes {
		p := m.peers[n.Name]
		if p != nil && p.alive(now) && p.told && s.to.after(p.state.Switches[s.uplink]) {
			late = append(late, n.Name)
		}
	}
	switch {
	case len(late) == 0:
		m.switching = nil
		s.answer("")
	case !now.Before(s.until):
		m.switching = nil
		s.answer(fmt.Sprintf("%s is %s on %s, but %s did not confirm it within %v: each node follows as soon as it hears of it, see harouter uplink list",
			s.uplink, words(s.to.Off), m.cfg.Node, strings.Join(late, ", "), switchTold))
	}
}

// settleDrains keeps the flows of uplinks that were disabled by hand, as long as
// those work: they end by themselves, only new ones go elsewhere. It tells which
// uplinks' flows are to end with the next plan, given the pool from now on.
func (m *Machine) settleDrains(word map[string]balancer.Verdict, pool map[string]bool, dead func(string) bool) (dying []line) {
	for _, u := range m.cfg.Balancer.Uplinks {
		has := m.pool[u.Name] || m.drains[u.Name]
		drains := has && !pool[u.Name] && word[u.Name] == balancer.Disabled && !dead(u.Name)
		if l := (line{name: u.Name, id: u.ID, mask: m.cfg.Balancer.MarkMask}); has && !pool[u.Name] && !drains && !m.cfg.Balancer.Enforces(u.Name) {
			if m.drains[u.Name] { // no plan gives it flows, and none comes for its death
				m.doomed = append(m.doomed, l)
			} else {
				dying = append(dying, l)
			}
		}
		m.drains[u.Name] = drains
	}
	return dying
}

// known are the switches of the uplinks that the file has.
func known(of map[string]Switch, cfg balancer.Config) map[string]Switch {
	out := map[string]Switch{}
	for name, s := range of {
		if slices.ContainsFunc(cfg.Uplinks, func(u balancer.Uplink) bool { return u.Name == name }) {
			out[name] = s
		}
	}
	return out
}
