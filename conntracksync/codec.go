package conntracksync

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What a record of a flow says of itself, in its first two bytes. "Same" means
// as in the record before it in the frame.
const (
	sixBit      = 1 << iota
	newProtocol // a byte
	sameSource  // address
	sameTarget  // original destination address
	sameTo      // original destination port
	sourceMoved // the address of answers' destination is not the source: it follows, or
	sameMoved   // is the same
	fromMoved   // its port follows
	targetMoved // the address of answers' source is not the destination: it follows
	toMoved     // its port follows
	newMark     // follows
	newState    // status and TCP follow
	hasRarity   // follows
	hasTimeout  // follows
	onlyState   // a change: only id, mark, state, timeout and rarity; the rest is known
	allFlags    = 1<<iota - 1
	rareSCTP    = 1 << 0
	rareLabels  = 1 << 1
	rareHelper  = 1 << 2
	rareMaster  = 1 << 3
	rareZone    = 1 << 4
	rareAdjust  = 1 << 5
	allRarities = 1<<6 - 1
)

var (
	errShort   = errors.New("too short")
	errMeaning = errors.New("a value that has no meaning")
)

// coder is what both sides remember from one record of a frame to the next.
type coder struct {
	id     uint32
	before flow
}

// maxID is the end of the numbers by which a sender names its flows.
const maxID = 1 << 24

func newCoder() coder {
	zero := [16]byte{10: 0xff, 11: 0xff} // 0.0.0.0
	return coder{before: flow{key: Key{source: zero, destination: zero}, reply: Key{source: zero, destination: zero}}}
}

// append writes one flow; the rarity is read only where it has one. With short
// it writes only what can change during a flow's life.
func (c *coder) append(b []byte, id uint32, f *flow, r *rarity, short bool) []byte {
	at, last := len(b), &c.before
	b = append(b, 0, 0)
	flags := uint16(0)
	b = binary.AppendVarint(b, int64(id)-int64(c.id))
	if short {
		flags |= onlyState
	} else {
		b = c.appendTuples(b, f, &flags)
	}
	if f.mark != last.mark {
		flags |= newMark
		b = binary.AppendUvarint(b, uint64(f.mark))
	}
	if f.status != last.status || f.tcp != last.tcp {
		flags |= newState
		// The status has three bits, the state of TCP four.
		b = append(b, byte(f.status&7)|byte(f.tcp.State)<<3,
			byte(f.tcp.OriginalFlags)<<4|byte(f.tcp.ReplyFlags), f.tcp.OriginalScale<<4|f.tcp.ReplyScale)
	}
	if f.timeout != 0 {
		flags |= hasTimeout
		b = binary.AppendUvarint(b, uint64(f.timeout))
	}
	if f.rare || f.key.zone != 0 && !short {
		flags |= hasRarity
		b = appendRarity(b, f, r, short)
	}
	binary.LittleEndian.PutUint16(b[at:], flags)
	key, reply := last.key, last.reply
	c.id, c.before = id, *f
	if short {
		c.before.key, c.before.reply = key, reply
	}
	return b
}

func (c *coder) appendTuples(b []byte, f *flow, flags *uint16) []byte {
	k, last := &f.key, &c.before
	if k.six {
		*flags |= sixBit
	}
	if k.protocol != last.key.protocol {
		*flags |= newProtocol
		b = append(b, byte(k.protocol))
	}
	addr := func(a *[16]byte) {
		if k.six {
			b = append(b, a[:]...)
		} else {
			b = append(b, a[12:]...)
		}
	}
	port := func(p uint16) { b = binary.BigEndian.AppendUint16(b, p) }
	plain := k.inverse()
	if *flags = *flags | sameSource; k.source != last.key.source || k.six != last.key.six {
		*flags &^= sameSource
		addr(&k.source)
	}
	if *flags = *flags | sameTarget; k.destination != last.key.destination || k.six != last.key.six {
		*flags &^= sameTarget
		addr(&k.destination)
	}
	port(k.from)
	if k.to == last.key.to {
		*flags |= sameTo
	} else {
		port(k.to)
	}
	if f.reply.destination != plain.destination {
		*flags |= sourceMoved
		if f.reply.destination == last.reply.destination && k.six == last.key.six {
			*flags |= sameMoved
		} else {
			addr(&f.reply.destination)
		}
	}
	if f.reply.to != plain.to {
		*flags |= fromMoved
		port(f.reply.to)
	}
	if f.reply.source != plain.source {
		*flags |= targetMoved
		addr(&f.reply.source)
	}
	if f.reply.from != plain.from {
		*flags |= toMoved
		port(f.reply.from)
	}
	return b
}

func appendRarity(b []byte, f *flow, r *rarity, short bool) []byte {
	at, has := len(b), byte(0)
	b = append(b, 0)
	if f.rare {
		if r.sctp != (SCTPInfo{}) {
			has |= rareSCTP
			b = append(b, r.sctp.State)
			b = binary.BigEndian.AppendUint32(b, r.sctp.OriginalTag)
			b = binary.BigEndian.AppendUint32(b, r.sctp.ReplyTag)
		}
		if r.labels != (Labels{}) {
			has |= rareLabels
			b = append(b, r.labels[:]...)
		}
		if r.helper != "" {
			has |= rareHelper
			b = append(append(b, byte(len(r.helper))), r.helper...)
		}
		if r.master != (Key{}) && !short {
			has |= rareMaster
			m := &r.master
			b = append(b, byte(m.protocol))
			if m.six {
				b = append(append(b, m.source[:]...), m.destination[:]...)
			} else {
				b = append(append(b, m.source[12:]...), m.destination[12:]...)
			}
			b = binary.BigEndian.AppendUint16(b, m.from)
			b = binary.BigEndian.AppendUint16(b, m.to)
		}
	}
	if f.rare && r.adjust != ([2]Adjustment{}) {
		has |= rareAdjust
		for _, a := range r.adjust {
			b = binary.BigEndian.AppendUint32(b, a.Position)
			b = binary.BigEndian.AppendUint32(b, a.Before)
			b = binary.BigEndian.AppendUint32(b, a.After)
		}
	}
	if f.key.zone != 0 && !short {
		has |= rareZone
		b = binary.BigEndian.AppendUint16(b, f.key.zone)
	}
	b[at] = has
	return b
}

// reader takes bytes from a frame. After one that was not there it gives zeros
// and remembers.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.fail(errShort)
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// uvarint reads a number up to most.
func (r *reader) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	switch {
	case n <= 0:
		r.fail(errShort)
		return 0
	case v > most:
		r.fail(errMeaning)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) addr(six bool, to *[16]byte) {
	if six {
		copy(to[:], r.take(16))
		return
	}
	*to = [16]byte{10: 0xff, 11: 0xff}
	copy(to[12:], r.take(4))
}

// next reads one flow. In a short one only what can change is set. It does not
// allocate, helpers' names aside.
func (c *coder) next(r *reader, f *flow, rare *rarity) (id uint32, short bool, err error) {
	*f, *rare = flow{mark: c.before.mark, status: c.before.status, tcp: c.before.tcp}, rarity{}
	var flags uint16
	if b := r.take(2); b != nil {
		flags = binary.LittleEndian.Uint16(b)
	}
	if flags > allFlags {
		r.fail(errMeaning)
	}
	delta, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail(errShort)
	} else {
		r.b = r.b[n:]
	}
	if delta < -(1<<32) || delta > 1<<32 || int64(c.id)+delta < 0 || int64(c.id)+delta >= maxID {
		r.fail(errMeaning)
	}
	id, short = uint32(int64(c.id)+delta), flags&onlyState != 0
	if !short {
		c.tuples(r, f, flags)
	} else if flags&^(onlyState|newMark|newState|hasRarity|hasTimeout) != 0 {
		r.fail(errMeaning)
	}
	if flags&newMark != 0 {
		f.mark = uint32(r.uvarint(1<<32 - 1))
	}
	if flags&newState != 0 {
		a, b, s := r.byte(), r.byte(), r.byte()
		f.status = Status(a & 7)
		f.tcp = TCPInfo{State: TCPState(a >> 3), OriginalFlags: TCPFlags(b >> 4), ReplyFlags: TCPFlags(b & 15),
			OriginalScale: s >> 4, ReplyScale: s & 15}
		if f.tcp.State > SYNSent2 || f.tcp.OriginalFlags&^ofTCP != 0 || f.tcp.ReplyFlags&^ofTCP != 0 {
			r.fail(errMeaning)
		}
	}
	if flags&hasTimeout != 0 {
		f.timeout = uint32(r.uvarint(1<<32 - 1))
	}
	if flags&hasRarity != 0 {
		f.rarities(r, rare, short)
	}
	if r.err != nil {
		return 0, false, fmt.Errorf("read a flow: %w", r.err)
	}
	key, reply := c.before.key, c.before.reply
	c.id, c.before = id, *f
	if short {
		c.before.key, c.before.reply = key, reply
	}
	return id, short, nil
}

func (c *coder) tuples(r *reader, f *flow, flags uint16) {
	k, last := &f.key, &c.before
	k.six = flags&sixBit != 0
	k.protocol = last.key.protocol
	if flags&newProtocol != 0 {
		k.protocol = Protocol(r.byte())
	}
	if flags&(sameSource|sameTarget|sameMoved) != 0 && k.six != last.key.six {
		r.fail(errMeaning)
	}
	if k.source = last.key.source; flags&sameSource == 0 {
		r.addr(k.six, &k.source)
	}
	if k.destination = last.key.destination; flags&sameTarget == 0 {
		r.addr(k.six, &k.destination)
	}
	k.from = r.uint16()
	if k.to = last.key.to; flags&sameTo == 0 {
		k.to = r.uint16()
	}
	f.reply = k.inverse()
	switch {
	case flags&(sourceMoved|sameMoved) == sourceMoved:
		r.addr(k.six, &f.reply.destination)
	case flags&(sourceMoved|sameMoved) == sourceMoved|sameMoved:
		f.reply.destination = last.reply.destination
	case flags&sameMoved != 0:
		r.fail(errMeaning)
	}
	if flags&fromMoved != 0 {
		f.reply.to = r.uint16()
	}
	if flags&targetMoved != 0 {
		r.addr(k.six, &f.reply.source)
	}
	if flags&toMoved != 0 {
		f.reply.from = r.uint16()
	}
}

func (f *flow) rarities(r *reader, rare *rarity, short bool) {
	has := r.byte()
	if has > allRarities || short && has&(rareZone|rareMaster) != 0 {
		r.fail(errMeaning)
	}
	if has&rareSCTP != 0 {
		rare.sctp = SCTPInfo{State: r.byte(), OriginalTag: r.uint32(), ReplyTag: r.uint32()}
	}
	if has&rareLabels != 0 {
		copy(rare.labels[:], r.take(len(rare.labels)))
	}
	if has&rareHelper != 0 {
		n := int(r.byte())
		if n > MaxHelper {
			r.fail(errMeaning)
		}
		rare.helper = string(r.take(n))
	}
	if has&rareMaster != 0 {
		m := &rare.master
		m.protocol = Protocol(r.byte())
		m.six = f.key.six
		r.addr(m.six, &m.source)
		r.addr(m.six, &m.destination)
		m.from, m.to = r.uint16(), r.uint16()
	}
	if has&rareAdjust != 0 {
		for i := range rare.adjust {
			rare.adjust[i] = Adjustment{Position: r.uint32(), Before: r.uint32(), After: r.uint32()}
		}
	}
	if has&rareZone != 0 {
		f.key.zone = r.uint16()
	}
	f.rare = *rare != rarity{}
}
