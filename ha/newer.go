package ha

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"harouter/vrrp"
)

// Who is cut off, or whose disk is full, misses a generation of the file, and
// with it who the nodes are. Gossip does not carry the word of a node that the
// file does not have, but the greetings on the lans do, to whoever has the key.

// expulsion is a generation of the file without this node, which was made without
// its knowledge. Two masters would not end by themselves: those who run it do not
// listen to a node that they do not know.
type expulsion struct {
	by         string // who told of it; "" none
	generation uint64
}

// hearsOfFile takes in which nodes the file of another one names.
func (m *Machine) hearsOfFile(s PeerState) {
	m.newest = max(m.newest, s.Gen)
	r := &m.expulsion
	_, names := s.Members[m.cfg.Node]
	switch {
	case len(s.Members) == 0:
	case !names && m.foreign(s): // its adverts are heard here all the same, so there is one master
	case names && s.Gen > r.generation: // of two files of the same number either could be the cluster's
		m.takenBack()
	case !names && m.yieldsTo(s) && s.Gen >= r.generation:
		if !m.expelled() {
			m.record("config", "generation", fmt.Sprint(m.cfg.Generation), fmt.Sprint(s.Gen), m.expelledText(s.Node))
		}
		*r = expulsion{s.Node, s.Gen}
	}
}

// tellStranger is how often.
const tellStranger = time.Second

// tellMembers tells whoever sends unicast adverts from an address that is no
// node's who the nodes are: gossip does not take its word, and on the lans it may
// not be heard (vrrp.unicast_only), but it may have this node in an older file.
func (m *Machine) tellMembers(to netip.Addr) {
	m.do(SendTo{To: to, Message: Message{Kind: KindMembers, Generation: m.cfg.Generation, Hash: m.cfg.Hash, Members: m.members}})
}

// foreign tells whether the file here names a node under vrrp.foreign: another
// cluster with the same key, which takes part in the election.
func (m *Machine) foreign(s PeerState) bool {
	return slices.ContainsFunc(s.Addresses, func(a netip.Addr) bool { return slices.Contains(m.cfg.Foreign, a) })
}

// takenBack says that this node is in a newer file than the one without it.
func (m *Machine) takenBack() { m.expulsion = expulsion{} }

// yieldsTo tells whether the file of a node that does not know this one is newer
// than this one's. Of two of the same number only one node may yield.
func (m *Machine) yieldsTo(s PeerState) bool {
	if s.Gen != m.cfg.Generation {
		return s.Gen > m.cfg.Generation
	}
	_, known := m.cfg.node(s.Node)
	return known || s.Hash > m.cfg.Hash
}

func (m *Machine) expelled() bool {
	return m.expulsion.by != "" && m.expulsion.generation >= m.cfg.Generation
}

func (m *Machine) expelledText(by string) string {
	return fmt.Sprintf("%s was taken out of the file of %s while it could not be reached, so it does not serve: harouter join takes it in again, harouter stop --clean removes all of ours here", m.cfg.Node, by)
}

// meet takes a node that this one's file does not have yet, and a newer one that
// names both does, for one that takes part in the election. Nil: it is none.
func (m *Machine) meet(s PeerState) *peer {
	address, ok := s.Members[s.Node]
	if _, names := s.Members[m.cfg.Node]; !ok || !names || s.Gen <= m.cfg.Generation || len(m.peers) >= maxMembers {
		return nil
	}
	p := &peer{Node: Node{Name: s.Node, Address: address, Priority: s.Priority}, guest: true}
	m.peers[s.Node] = p
	m.indexSpeakers()
	m.record("node", s.Node, "", "", fmt.Sprintf("in generation %d of the configuration, which this node does not have yet", s.Gen))
	return p
}

// maxMembers bounds the nodes that are met.
const maxMembers = 64

// settleGuests forgets nodes that were met and are not heard any more.
func (m *Machine) settleGuests(now time.Time) {
	before := len(m.peers)
	maps.DeleteFunc(m.peers, func(_ string, p *peer) bool {
		return p.guest && !p.alive(now) && (m.vrrp.State() != vrrp.Backup || m.vrrp.Master() != p.Name)
	})
	if len(m.peers) != before {
		m.indexSpeakers()
	}
}

// membersOf are the nodes of a file, with their first addresses.
func membersOf(nodes []Node) map[string]netip.Addr {
	all := map[string]netip.Addr{}
	for _, n := range nodes {
		all[n.Name] = n.Address
	}
	return all
}
