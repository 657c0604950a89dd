package balancer

import (
	"encoding/binary"
	"net/netip"
)

// A connection carries the id of its uplink, not the name of its policy: six bits
// of the mark are too few for both. So where flows are to move back to an uplink
// that has returned, each one's policy is found again, from what the connection
// table knows of it. That is less than the packet had: of a policy that asks for
// a MAC address or a DSCP, or for a lan where the source is in no network of one,
// nobody can tell afterwards. Where such a policy could have taken the flow, it
// stays.

// Flow is a connection as its first packet was, and the id of its uplink.
type Flow struct {
	Source, Destination         netip.Addr
	Protocol                    uint8
	SourcePort, DestinationPort uint16
	ID                          int
}

// Strays finds the flows that are not where their policy would send them now.
type Strays struct {
	does []doing
	lans [][]netip.Prefix        // networks of each lan
	ours map[netip.Addr]struct{} // what comes from there or goes there is not balanced
}

// Strays are those of what the policies do now; ok tells that there may be some.
func (c *Config) Strays(in Input) (s Strays, ok bool) {
	s.does = c.doings(in)
	for _, d := range s.does {
		ok = ok || d.Move && d.outcome == spreads && !d.Router
	}
	if !ok {
		return Strays{}, false
	}
	s.ours = map[netip.Addr]struct{}{}
	for _, u := range c.Uplinks {
		for _, p := range u.Virtual {
			s.ours[p.Addr()] = struct{}{}
		}
		for _, a := range in.Own[u.Name] {
			s.ours[a] = struct{}{}
		}
	}
	for _, a := range c.Nodes {
		s.ours[a] = struct{}{}
	}
	for _, l := range c.Lans {
		var nets []netip.Prefix
		for _, p := range l.Virtual {
			nets = append(nets, p.Masked())
		}
		for _, p := range in.OwnLan[l.Name] {
			nets = append(nets, p.Masked())
		}
		s.lans = append(s.lans, nets)
	}
	return s, true
}

// Has tells whether a flow is on an uplink that has no share of its policy, and
// the policy wants it back. Where shares are measured, none is no reason: a line
// that is full keeps what it carries.
func (s Strays) Has(f Flow) bool {
	_, from := s.ours[f.Source]
	_, to := s.ours[f.Destination]
	if from || to || f.ID == 0 || !f.Source.Is4() || !f.Destination.Is4() {
		return false
	}
	for i, d := range s.does {
		if !concerns(s.does, i, false) {
			continue
		}
		takes, sure := s.takes(d.Match, f)
		switch {
		case !takes:
			continue
		case !sure:
			return false
		}
		return d.Move && d.outcome == spreads && !d.Method.Measures() && slotsOf(d.slots, f.ID) == 0
	}
	return false
}

// takes tells whether a match took the flow; sure: no other could be the case.
func (s Strays) takes(m Match, f Flow) (takes, sure bool) {
	number := func(a netip.Addr) uint64 {
		b := a.As4()
		return uint64(binary.BigEndian.Uint32(b[:]))
	}
	sure = true
	for field, spans := range m {
		var n uint64
		switch field {
		case MatchLan:
			lan, found := s.lanOf(f.Source)
			if !found {
				sure = false
				continue
			}
			n = uint64(lan)
		case MatchSource:
			n = number(f.Source)
		case MatchDestination:
			n = number(f.Destination)
		case MatchProtocol:
			n = uint64(f.Protocol)
		case MatchSourcePort:
			n = uint64(f.SourcePort)
		case MatchDestinationPort:
			n = uint64(f.DestinationPort)
		case MatchDSCP, MatchMAC, matchFields:
			sure = false
			continue
		}
		if !spans.Has(n) {
			return false, true
		}
	}
	return true, sure
}

func (s Strays) lanOf(a netip.Addr) (lan int, found bool) {
	for i, nets := range s.lans {
		for _, p := range nets {
			if p.Contains(a) {
				return i, true
			}
		}
	}
	return 0, false
}

// ID is the id that a packet or connection mark stands for, 0 if none.
func ID(mark, mask uint32) int {
	if mask == 0 {
		return 0
	}
	mark &= mask
	for mask&1 == 0 {
		mask >>= 1
		mark >>= 1
	}
	return int(mark)
}
