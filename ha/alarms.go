package ha

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"harouter/vrrp"
)

// Codes of alarms (DESIGN.md §4).
const (
	AlarmDeaf            = "deaf"
	AlarmNoUplink        = "no_uplink"
	AlarmConfigDiffers   = "config_differs"
	AlarmBadKey          = "bad_key"
	AlarmBadAdvert       = "bad_advert"
	AlarmForeignVRRP     = "foreign_vrrp"
	AlarmVersionMix      = "version_mix"
	AlarmForgedAdvert    = "forged_advert"
	AlarmFoughtOver      = "fought_over"
	AlarmAddressConflict = "address_conflict"
	AlarmTableFull       = "table_full"
	AlarmPortsFull       = "ports_full"
	AlarmDiskFull        = "disk_full"
	AlarmOneWitness      = "one_witness"
	AlarmUnsynced        = "unsynced"
	AlarmServiceFailed   = "service_failed"
	AlarmHookFailed      = "hook_failed"
)

type alarmKey struct{ code, subject string }

type alarm struct {
	since time.Time
	text  string
	until time.Time // zero: as long as the cause stands
	edge  bool      // an edge sees the cause
}

// maxSubjects bounds the alarms of one code that packets raise: their sources
// can be forged at will.
const maxSubjects = 8

// raise sets an alarm; one that stands keeps its time.
func (m *Machine) raise(code, subject, text string, until time.Time, now time.Time) {
	k := alarmKey{code, subject}
	if m.alarms[k] == nil {
		n := 0
		for other := range m.alarms {
			if other.code == code {
				n++
			}
		}
		if n >= maxSubjects && !until.IsZero() {
			k.subject = "others"
		}
	}
	if a := m.alarms[k]; a != nil {
		a.text, a.until = text, until
		return
	}
	m.alarms[k] = &alarm{since: now, text: text, until: until}
	m.record("alarm", code+" "+k.subject, "", "on", text)
}

func (m *Machine) clear(code, subject string) {
	k := alarmKey{code, subject}
	if a := m.alarms[k]; a != nil {
		delete(m.alarms, k)
		m.record("alarm", code+" "+subject, "on", "off", a.text)
	}
}

// hold raises or clears an alarm whose cause can be seen at any time.
func (m *Machine) holdAlarm(on bool, code, subject, text string, now time.Time) {
	if on {
		m.raise(code, subject, text, time.Time{}, now)
	} else {
		m.clear(code, subject)
	}
}

// onDropped counts what a socket refused and raises an alarm where a person
// should look.
func (m *Machine) onDropped(d Dropped, now time.Time) {
	counts := m.drops[d.Part]
	if counts == nil {
		return
	}
	counts[d.Reason]++
	until := now.Add(alarmHold)
	from := "somebody"
	if d.Source.IsValid() {
		from = d.Source.String()
	}
	switch {
	case d.Part == "gossip" && d.Reason == "key":
		m.raise(AlarmBadKey, "gossip", "a node with another cluster key talks to this one: compare /etc/harouter/cluster.key on all nodes", until, now)
	case d.Part == "sync" && d.Reason == "key" && now.Sub(m.changedFile) > settleFor: // else a node that was in the file a moment ago
		m.raise(AlarmBadKey, "sync", "a node with another cluster key, or that is not in the file of both, wants the connections ("+from+"): compare /etc/harouter/cluster.key and the nodes in the file", until, now)
	case d.Part == "vrrp" && d.Reason == string(vrrp.DropSender): // see noteStranger
	case d.Part == "vrrp" && d.Reason == string(vrrp.DropCARP):
		m.raise(AlarmForeignVRRP, from, fmt.Sprintf("%s speaks CARP with our VRID, which is the same MAC address: choose another vrrp.id here, or another vhid there", from), until, now)
	case d.Part == "vrrp" && d.Reason == string(vrrp.DropVersion):
		m.raise(AlarmVersionMix, from, fmt.Sprintf("%s speaks another VRRP version than %d, so that each side may become master: set vrrp.version to what it speaks, or set its version to %d", from, m.cfg.VRRPVersion, m.cfg.VRRPVersion), until, now)
	case d.Part == "vrrp":
		m.raise(AlarmBadAdvert, from, fmt.Sprintf("%s sends adverts that are refused (%s)%s", from, d.Reason, remedies[d.Reason]), until, now)
	}
}

// remedies say what to set where settings of version 2 differ.
var remedies = map[string]string{
	string(vrrp.DropAuthentication): ": set the same vrrp.authentication on both, or none",
	string(vrrp.DropInterval):       ": in version 2 both need the same vrrp.advertise",
}

const (
	fightFew    = 5 // repairs
	fightWithin = time.Minute
	// fightHold, after the last repair: one comes two seconds after the end of
	// a fight at the latest, and the alarm goes within ten.
	fightHold = 7 * time.Second
)

// onRepaired records a repair, and raises the alarm of a fight for addresses.
// Those for rules, routes and the table tell it themselves. In a fight the alarm
// says it all: one that lasts for days must not push out of the log of events
// what happened before.
func (m *Machine) onRepaired(ev Repaired, now time.Time) {
	if m.alarms[alarmKey{AlarmFoughtOver, ev.Kind}] == nil {
		m.record("repair", ev.Kind, "", "", "put back what another program took away: "+ev.What)
	}
	if ev.Kind != "address" {
		return
	}
	m.repaired = slices.DeleteFunc(m.repaired, func(t time.Time) bool { return now.Sub(t) > fightWithin })
	if m.repaired = append(m.repaired, now); len(m.repaired) > fightFew {
		m.raise(AlarmFoughtOver, ev.Kind, fmt.Sprintf("another program takes %s away again and again: find it (a DHCP client, NetworkManager, a script) and keep it off", ev.What), now.Add(fightHold), now)
	}
}

// strangerAfter is when an unknown sender is worth an alarm, if it is still
// unknown then: a node whose addresses changed has not told them yet, and one that
// has just started takes longer.
const (
	strangerAfter = 700 * time.Millisecond
	strangerMost  = 1500 * time.Millisecond
	// strangerFew is how long adverts take, by their own interval, to be as many as
	// are worth it: a node may send one or two from an address that it had for a
	// moment, and never told.
	strangerFew = 300 * time.Millisecond
)

// stranger is an unknown sender of adverts.
type stranger struct {
	vrid        uint8
	heard       time.Duration // sum of the intervals that its adverts tell
	first, last time.Time
	told        time.Time // who the nodes are
}

func (m *Machine) noteStranger(link string, source netip.Addr, ad vrrp.Advert, now time.Time) {
	s, ok := m.strangers[source]
	if !ok {
		if len(m.strangers) > 2*maxSubjects { // a flood of forged sources
			return
		}
		s.first = now
	}
	s.last, s.vrid = now, ad.VRID
	s.heard += ad.Interval
	if link == "" && now.Sub(s.told) >= tellStranger {
		s.told = now
		m.tellMembers(source)
	}
	m.strangers[source] = s
}

func (m *Machine) settleStrangers(now time.Time) {
	after := strangerAfter
	for _, p := range m.peers {
		if !p.told {
			after = strangerMost
		}
	}
	for a, s := range m.strangers {
		_, known := m.speakers[a]
		switch {
		case known || now.Sub(s.last) > alarmHold:
			delete(m.strangers, a)
		case now.Sub(s.first) >= after && s.heard >= strangerFew:
			m.raise(AlarmForeignVRRP, a.String(), fmt.Sprintf("%v sends adverts with our VRID %d and is not one of the nodes: choose another vrrp.id, or name it under vrrp.foreign", a, s.vrid), s.last.Add(alarmHold), now)
		}
	}
}

// settleAlarms looks at the causes that stand.
func (m *Machine) settleAlarms(now time.Time) {
	m.settleStrangers(now)
	for k, a := range m.alarms {
		if !a.until.IsZero() && now.After(a.until) {
			m.clear(k.code, k.subject)
		}
	}
	dead := 0
	for _, v := range m.verdicts {
		if !v.Usable() && v.String() != "unknown" {
			dead++
		}
	}
	m.holdAlarm(dead > 0 && dead == len(m.verdicts), AlarmNoUplink, "all", "no uplink works; routing stays as it was", now)
	m.settleDiffer(now)
	m.holdAlarm(m.expelled(), AlarmConfigDiffers, "node "+m.cfg.Node, m.expelledText(m.expulsion.by), now)
	m.settleUnsynced(now)
	m.settleTwins(now)
	lan := ""
	if len(m.cfg.Nodes) > 1 {
		lan = m.lanOf(m.address())
	}
	if m.witness != lan { // those of peers, of which one of two paths is lost, stay
		m.clear(AlarmOneWitness, m.witness)
	}
	if m.witness = lan; lan != "" {
		m.raise(AlarmOneWitness, lan, "the nodes' address lies on this lan: when it fails, adverts and gossip fail together; a direct cable is better", time.Time{}, now)
	}
}

// differAfter is how long nodes may run different files before that is an
// alarm: one that comes back fetches what it missed.
const differAfter = 700 * time.Millisecond

// settleDiffer tells of nodes that run different files, and of files that
// somebody edited and nobody agreed on.
func (m *Machine) settleDiffer(now time.Time) {
	text := m.differs(now)
	if m.expelled() { // which is an alarm of its own, with another remedy
		text = ""
	}
	switch {
	case text == "":
		m.differing = time.Time{}
	case m.differing.IsZero():
		m.differing = now
	}
	m.holdAlarm(text != "" && now.Sub(m.differing) >= differAfter, AlarmConfigDiffers, "configuration", text, now)
}

// differs says in words how the files differ, "" if they do not.
func (m *Machine) differs(now time.Time) string {
	var differ, edited []string
	if m.edited() {
		edited = append(edited, m.cfg.Node+" "+short(m.file.Hash))
	}
	for _, n := range m.cfg.Nodes {
		p := m.peers[n.Name]
		if p == nil || !p.alive(now) || !p.told {
			continue
		}
		if p.state.Hash != m.cfg.Hash {
			differ = append(differ, p.Name+" runs "+short(p.state.Hash))
		}
		if p.state.FileHash != "" {
			edited = append(edited, p.Name+" "+short(p.state.FileHash))
		}
	}
	var parts []string
	if len(differ) > 0 {
		parts = append(parts, fmt.Sprintf("%s runs %s, %s: copy one file to all nodes, then harouter reload", m.cfg.Node, short(m.cfg.Hash), strings.Join(differ, ", ")))
	}
	if len(edited) > 0 {
		text := fmt.Sprintf("the file on disk is not the one that runs (%s): on %s; harouter reload takes it into use once it is the same on all nodes", short(m.cfg.Hash), strings.Join(edited, ", "))
		if m.edited() && m.file.Err != "" {
			text += " (" + brief(m.file.Err) + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

func (m *Machine) address() netip.Addr {
	n, _ := m.cfg.node(m.cfg.Node)
	return n.Address
}

func (m *Machine) lanOf(a netip.Addr) string {
	for _, l := range m.cfg.Balancer.Lans {
		if slices.ContainsFunc(l.Virtual, func(p netip.Prefix) bool { return p.Masked().Contains(a) }) {
			return l.Name
		}
		if slices.ContainsFunc(m.links[l.Device].Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return l.Name
		}
	}
	return ""
}

func short(hash string) string {
	if len(hash) > 12 {
		return hash[:12]
	}
	return hash
}
