package hooks

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// told is all that a script may be told.
type told struct {
	change
	cfg      Config
	line     Line
	way      way
	count    count
	role     string
	up, down []string
}

// way is from where, and to whom, an uplink is used.
type way struct{ source, gateway netip.Addr }

// event is the name of the directory, without .d.
func (t told) event() string { return strings.TrimSuffix(directories[t.state][0], ".d") }

// args are the arguments of a script.
func (t told) args() []string {
	switch t.subject {
	case theRole:
		return []string{t.state, t.cfg.Node, t.previous}
	case thePlan:
		return []string{t.state, t.role}
	}
	n := strconv.Itoa
	return []string{
		t.state, t.subject.uplink, address(cmp.Or(t.line.Target, t.way.gateway)), t.line.Device,
		cmp.Or(strings.Join(t.cfg.MailTo, ","), "root"), // the original's default
		n(t.count.replied), n(t.count.waiting), n(t.count.lost), n(t.count.late),
		n(t.count.received), n(t.count.pause), n(t.count.missing),
		strconv.FormatInt(t.count.rtt.Microseconds(), 10), address(t.way.source), t.previous,
		strconv.FormatInt(t.at.Unix(), 10),
	}
}

// address is one in words, "" for none.
func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// variables are those of a script beside those of the daemon.
func (t told) variables() []string {
	out := []string{
		"HAROUTER_EVENT=" + t.event(),
		"HAROUTER_CLUSTER=" + t.cfg.Cluster,
		"HAROUTER_NODE=" + t.cfg.Node,
		"HAROUTER_ROLE=" + t.role,
		"HAROUTER_REASON=" + strings.ReplaceAll(t.reason, "\x00", ""),
		"HAROUTER_TIME=" + strconv.FormatInt(t.at.Unix(), 10),
		"HAROUTER_UP=" + strings.Join(slices.Sorted(slices.Values(t.up)), " "), // uplinks that may be used
		"HAROUTER_DOWN=" + strings.Join(slices.Sorted(slices.Values(t.down)), " "),
	}
	if t.subject == thePlan {
		return out
	}
	out = append(out, "HAROUTER_STATE="+t.state, "HAROUTER_PREVIOUS="+t.previous)
	if t.subject == theRole {
		return out
	}
	return append(out,
		"HAROUTER_UPLINK="+t.subject.uplink,
		"HAROUTER_DEVICE="+t.line.Device,
		"HAROUTER_GATEWAY="+address(t.way.gateway),
		"HAROUTER_SOURCE="+address(t.way.source),
		"HAROUTER_RTT_US="+strconv.FormatInt(t.count.rtt.Microseconds(), 10),
		"HAROUTER_LOSS="+strconv.Itoa(t.count.loss()), // percent of the last 100 rounds
	)
}
