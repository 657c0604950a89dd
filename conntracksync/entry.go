package conntracksync

import (
	"math/bits"
	"net/netip"
)

// Key names a flow: its original tuple and zone. Keys can be compared, and hold
// no pointer, so that a large table costs the garbage collector nothing.
type Key struct {
	source, destination [16]byte
	// from and to are the ports, or the id, and type and code, of ICMP.
	from, to uint16
	zone     uint16
	protocol Protocol
	six      bool
}

// KeyOf names the flow with that original tuple and zone.
func KeyOf(t Tuple, zone uint16) Key {
	k := Key{source: t.Source.As16(), destination: t.Destination.As16(), protocol: t.Protocol, zone: zone,
		six: !t.Source.Is4(), from: t.SourcePort, to: t.DestinationPort}
	if isICMP(t.Protocol) {
		k.from, k.to = t.ID, uint16(t.Type)<<8|uint16(t.Code)
	}
	return k
}

func isICMP(p Protocol) bool { return p == ICMP || p == ICMPv6 }

// Tuple is the original tuple of the flow.
func (k Key) Tuple() Tuple {
	t := Tuple{Source: k.addr(k.source), Destination: k.addr(k.destination), Protocol: k.protocol}
	if isICMP(k.protocol) {
		t.ID, t.Type, t.Code = k.from, uint8(k.to>>8), uint8(k.to)
	} else {
		t.SourcePort, t.DestinationPort = k.from, k.to
	}
	return t
}

func (k Key) addr(b [16]byte) netip.Addr {
	a := netip.AddrFrom16(b)
	if !k.six {
		return a.Unmap()
	}
	return a
}

// inverse is the key of the answers where nothing is translated.
func (k Key) inverse() Key {
	k.source, k.destination = k.destination, k.source
	if isICMP(k.protocol) {
		k.to = uint16(answerTo(k.protocol, uint8(k.to>>8)))<<8 | k.to&0xff
	} else {
		k.from, k.to = k.to, k.from
	}
	return k
}

// flow is a Flow as tables and frames hold it: small and without a pointer.
// What few flows have stands apart.
type flow struct {
	key, reply Key // reply.zone is 0
	mark       uint32
	status     Status // only synced bits
	timeout    uint32 // seconds, 0 where the protocol's own is meant
	tcp        TCPInfo
	rare       bool // the flow has a rarity
}

// rarity is what few flows have.
type rarity struct {
	sctp   SCTPInfo
	labels Labels
	helper string
	master Key // the zero one where there is none
	adjust [2]Adjustment
}

// synced are the bits of the status that one node tells another. The others
// follow from the translation or are no one else's business.
const synced = SeenReply | Assured | Expected

// whole reports whether the flow can be told: both tuples have addresses of one
// family and the same protocol.
func (f *Flow) whole() bool {
	a, b := &f.Original, &f.Reply
	return oneFamily(a) && oneFamily(b) && a.Source.Is4() == b.Source.Is4() && a.Protocol == b.Protocol &&
		(!f.Master.Source.IsValid() || oneFamily(&f.Master) && f.Master.Source.Is4() == a.Source.Is4()) &&
		len(f.Helper) <= MaxHelper
}

func oneFamily(t *Tuple) bool {
	return t.Source.IsValid() && t.Destination.IsValid() && t.Source.Is4() == t.Destination.Is4()
}

// pack takes a whole flow apart.
func pack(f *Flow) (flow, rarity) {
	p := flow{key: KeyOf(f.Original, f.Zone), reply: KeyOf(f.Reply, 0), mark: f.Mark, status: f.Status & synced, timeout: f.Timeout}
	if f.Original.Protocol == TCP {
		p.tcp = f.TCP
		p.tcp.OriginalFlags &= ofTCP
		p.tcp.ReplyFlags &= ofTCP
		p.tcp.OriginalScale &= 15
		p.tcp.ReplyScale &= 15
	}
	r := rarity{labels: f.Labels, helper: f.Helper}
	if f.Original.Protocol == SCTP {
		r.sctp = f.SCTP
	}
	if f.Original.Protocol == TCP {
		r.adjust = f.Adjust
	}
	if f.Master.Source.IsValid() {
		r.master = KeyOf(f.Master, 0)
	}
	p.rare = r != rarity{}
	return p, r
}

// unpack puts it together again.
func unpack(p *flow, r *rarity) Flow {
	f := Flow{Original: p.key.Tuple(), Reply: p.reply.Tuple(), Zone: p.key.zone, Mark: p.mark, Status: p.status | Confirmed,
		Timeout: p.timeout, TCP: p.tcp}
	plain := p.key.inverse()
	plain.zone = 0
	if p.reply.destination != plain.destination || !isICMP(p.key.protocol) && p.reply.to != plain.to || isICMP(p.key.protocol) && p.reply.from != plain.from {
		f.Status |= SourceNAT
	}
	if p.reply.source != plain.source || !isICMP(p.key.protocol) && p.reply.from != plain.from {
		f.Status |= DestNAT
	}
	if p.rare {
		f.SCTP, f.Labels, f.Helper, f.Adjust = r.sctp, r.labels, r.helper, r.adjust
		if r.master != (Key{}) {
			f.Master = r.master.Tuple()
		}
	}
	return f
}

// identity is a number for what never changes in a flow's life, and digest goes
// on from it with the rest: it differs when two flows differ in what is told of
// them. They must be the same on all nodes, so they have no secret: they find
// faults, not attacks.
func (p *flow) identity(r *rarity) uint64 {
	h := p.reply.mix(p.key.hash())
	if r.master != (Key{}) {
		h = r.master.mix(h)
	}
	return h
}

func (p *flow) digest(identity uint64, r *rarity) uint64 {
	h := mix(identity, uint64(p.mark)<<32|uint64(p.status))
	h = mix(h, uint64(p.timeout)<<32|uint64(p.tcp.State)<<24|uint64(p.tcp.OriginalFlags)<<16|uint64(p.tcp.ReplyFlags)<<8|
		uint64(p.tcp.OriginalScale)<<4|uint64(p.tcp.ReplyScale))
	if !p.rare || r.sctp == (SCTPInfo{}) && r.labels == (Labels{}) && r.helper == "" && r.adjust == ([2]Adjustment{}) {
		return h // a master is in the identity
	}
	h = mix(h, uint64(r.sctp.State))
	h = mix(h, uint64(r.sctp.OriginalTag)<<32|uint64(r.sctp.ReplyTag))
	h = mix(mix(h, word(r.labels[:8])), word(r.labels[8:]))
	for _, c := range []byte(r.helper) {
		h = mix(h, uint64(c))
	}
	for _, a := range r.adjust {
		h = mix(mix(h, uint64(a.Position)), uint64(a.Before)<<32|uint64(a.After))
	}
	return h
}

// hash spreads keys over buckets.
func (k *Key) hash() uint64 { return k.mix(0x9e3779b97f4a7c15) }

func (k *Key) mix(h uint64) uint64 {
	h = mix(mix(h, word(k.source[:8])), word(k.source[8:]))
	h = mix(mix(h, word(k.destination[:8])), word(k.destination[8:]))
	six := uint64(0)
	if k.six {
		six = 1
	}
	return mix(h, uint64(k.from)<<48|uint64(k.to)<<32|uint64(k.zone)<<16|uint64(k.protocol)<<8|six)
}

func word(b []byte) uint64 {
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

func mix(h, v uint64) uint64 {
	hi, lo := bits.Mul64(h^v^0xa0761d6478bd642f, 0xe7037ed1a0b428db)
	return hi ^ lo ^ h<<1
}
