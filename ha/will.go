package ha

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"harouter/vrrp"
)

// A master leaves a will with its guard: a secret, sealed for its successor,
// that the guard sends when it has fenced the daemon. The successor need not
// wait for Skew then, as it would for a farewell, which anybody on the LAN can
// forge. What it must know to believe the secret, its hash, the master tells
// over gossip while it is master. Each mastership has a secret of its own, so
// one that was sent once is of no use to anybody later.

// will is the secret of the present mastership, nil if there is none.
func (m *Machine) will() []byte {
	if m.vrrp.State() != vrrp.Master || m.seed == [32]byte{} {
		return nil
	}
	b := binary.BigEndian.AppendUint64(m.seed[:], m.wills)
	sum := sha256.Sum256(b)
	return sum[:]
}

// proof is what is told of a will.
func proof(will []byte) []byte {
	if will == nil {
		return nil
	}
	sum := sha256.Sum256(will)
	return sum[:]
}

// onFenced takes the word of another node's guard.
func (m *Machine) onFenced(p *peer, will []byte, now time.Time) {
	if t := m.taking; t != nil && t.await && t.from == p.Name && m.leftBy(p, will) {
		m.isGone(p.Name + " was fenced while it handed over")
		return
	}
	if m.vrrp.State() != vrrp.Backup || m.stopping != 0 || m.drowsy(now) || m.rests(now) && m.othersServe(p, now) {
		return
	}
	if !m.leftBy(p, will) {
		return
	}
	if master := m.vrrp.Master(); master != "" && master != p.Name {
		return // a third node was quicker
	}
	m.elect(vrrp.Promote{From: p.Name, Reason: p.Name + " was fenced: its daemon died or hangs"}, now)
}

// leftBy tells whether a will is that of a node's present mastership, and not one
// of an earlier one, or of none that was heard of. It is so once.
func (m *Machine) leftBy(p *peer, will []byte) bool {
	if len(will) == 0 || !p.told || p.state.Role != RoleMaster || !bytes.Equal(p.state.Will, proof(will)) || bytes.Equal(p.executed, p.state.Will) {
		return false
	}
	p.executed = p.state.Will
	return true
}

// othersServe tells whether a node other than p could be master as well.
func (m *Machine) othersServe(p *peer, now time.Time) bool {
	for _, other := range m.peers {
		if other != p && other.canServe(now) && !other.state.Resting {
			return true
		}
	}
	return false
}
