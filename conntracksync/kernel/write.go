package kernel

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"harouter/conntracksync"
)

// open begins a nested attribute and returns where; shut ends it.
func open(b []byte, attr uint16) ([]byte, int) {
	at := len(b)
	return native.AppendUint16(native.AppendUint16(b, 0), attr|unix.NLA_F_NESTED), at
}

func shut(b []byte, at int) []byte {
	native.PutUint16(b[at:], uint16(len(b)-at))
	return b // its content is whole words
}

// appendBytes appends an attribute, padded to whole words.
func appendBytes(b []byte, attr uint16, v ...byte) []byte {
	b = native.AppendUint16(b, uint16(sizeAttr+len(v)))
	b = append(native.AppendUint16(b, attr), v...)
	for len(b)&3 != 0 {
		b = append(b, 0)
	}
	return b
}

func appendUint16(b []byte, attr uint16, v uint16) []byte {
	b = native.AppendUint16(b, sizeAttr+2)
	b = binary.BigEndian.AppendUint16(native.AppendUint16(b, attr), v)
	return append(b, 0, 0)
}

func appendAddr(b []byte, four, six uint16, a netip.Addr) []byte {
	if a.Is4() {
		v := a.As4()
		return appendBytes(b, four, v[:]...)
	}
	v := a.As16()
	return appendBytes(b, six, v[:]...)
}

func appendTuple(b []byte, attr uint16, t *conntracksync.Tuple) []byte {
	b, tuple := open(b, attr)
	b, at := open(b, ctaTupleIP)
	b = appendAddr(b, ctaIPv4Src, ctaIPv6Src, t.Source)
	b = appendAddr(b, ctaIPv4Dst, ctaIPv6Dst, t.Destination)
	b = shut(b, at)
	b, at = open(b, ctaTupleProto)
	b = appendBytes(b, ctaProtoNum, byte(t.Protocol))
	switch t.Protocol {
	case conntracksync.ICMP:
		b = appendUint16(b, ctaProtoICMPID, t.ID)
		b = appendBytes(b, ctaProtoICMPType, t.Type)
		b = appendBytes(b, ctaProtoICMPCode, t.Code)
	case conntracksync.ICMPv6:
		b = appendUint16(b, ctaProtoICMPv6ID, t.ID)
		b = appendBytes(b, ctaProtoICMPv6Type, t.Type)
		b = appendBytes(b, ctaProtoICMPv6Code, t.Code)
	default:
		b = appendUint16(b, ctaProtoSrcPort, t.SourcePort)
		b = appendUint16(b, ctaProtoDstPort, t.DestinationPort)
	}
	return shut(shut(b, at), tuple)
}

// appendNAT says to which address and port a direction is translated: the range
// is one wide, so the kernel must take it as it is.
func appendNAT(b []byte, attr uint16, to netip.Addr, port uint16) []byte {
	b, nat := open(b, attr)
	b = appendAddr(b, ctaNATv4Min, ctaNATv6Min, to)
	b = appendAddr(b, ctaNATv4Max, ctaNATv6Max, to)
	b, at := open(b, ctaNATProto)
	b = appendUint16(b, ctaNATPortMin, port)
	b = appendUint16(b, ctaNATPortMax, port)
	return shut(shut(b, at), nat)
}

// appendTranslation says how a flow is translated, if it is. The kernel ignores
// the bits for it in the status, and a reply tuple that is not the inverse of
// the original one makes an entry that looks right and translates nothing. The
// source is always named: for one that is not, the kernel seeks another port where
// an older flow still has the same answers, and says nothing.
func appendTranslation(b []byte, f *conntracksync.Flow) []byte {
	plain := f.Original.Inverse()
	here, there := f.Reply.DestinationPort, f.Reply.SourcePort
	sameHere, sameThere := here == plain.DestinationPort, there == plain.SourcePort
	if f.Original.Protocol == conntracksync.ICMP || f.Original.Protocol == conntracksync.ICMPv6 {
		// The id stands on the side of who asked.
		here, there = f.Reply.ID, f.Reply.ID
		sameHere, sameThere = here == f.Original.ID, true
	}
	source := f.Reply.Destination != plain.Destination || !sameHere
	destination := f.Reply.Source != plain.Source || !sameThere
	if source || destination {
		b = appendNAT(b, ctaNATSrc, f.Reply.Destination, here)
	}
	if destination {
		b = appendNAT(b, ctaNATDst, f.Reply.Source, there)
	}
	return b
}

// appendState appends what only some protocols have. TCP becomes liberal with
// the window in both directions: its edges were not told.
func appendState(b []byte, f *conntracksync.Flow) []byte {
	switch f.Original.Protocol {
	case conntracksync.TCP:
		const mask = byte(conntracksync.WindowScale|conntracksync.SACK|conntracksync.CloseInit) | tcpLiberal
		b, info := open(b, ctaProtoInfo)
		b, at := open(b, ctaProtoInfoTCP)
		b = appendBytes(b, ctaTCPState, byte(f.TCP.State))
		b = appendBytes(b, ctaTCPScaleOrig, f.TCP.OriginalScale)
		b = appendBytes(b, ctaTCPScaleReply, f.TCP.ReplyScale)
		b = appendBytes(b, ctaTCPFlagsOrig, byte(f.TCP.OriginalFlags)&mask|tcpLiberal, mask)
		b = appendBytes(b, ctaTCPFlagsReply, byte(f.TCP.ReplyFlags)&mask|tcpLiberal, mask)
		return shut(shut(b, at), info)
	case conntracksync.SCTP:
		b, info := open(b, ctaProtoInfo)
		b, at := open(b, ctaProtoInfoSCTP)
		b = appendBytes(b, ctaSCTPState, f.SCTP.State)
		b = appendUint32(b, ctaSCTPTagOrig, f.SCTP.OriginalTag)
		b = appendUint32(b, ctaSCTPTagReply, f.SCTP.ReplyTag)
		return shut(shut(b, at), info)
	}
	return b
}

// appendLiberal makes a flow of TCP liberal with the window, and changes no more.
func appendLiberal(b []byte, f *conntracksync.Flow) []byte {
	if f.Original.Protocol != conntracksync.TCP {
		return b
	}
	b, info := open(b, ctaProtoInfo)
	b, at := open(b, ctaProtoInfoTCP)
	b = appendBytes(b, ctaTCPFlagsOrig, tcpLiberal, tcpLiberal)
	b = appendBytes(b, ctaTCPFlagsReply, tcpLiberal, tcpLiberal)
	return shut(shut(b, at), info)
}

// begin appends the head of a message; end fills in its length.
func begin(b []byte, kind, flags uint16, seq uint32, family byte) ([]byte, int) {
	at := len(b)
	b = native.AppendUint32(b, 0)
	b = native.AppendUint16(b, kind)
	b = native.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0)
	return append(b, family, 0, 0, 0), at
}

func end(b []byte, at int) []byte {
	native.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// appendName appends what names a flow.
func appendName(b []byte, f *conntracksync.Flow) []byte {
	b = appendTuple(b, ctaTupleOrig, &f.Original)
	if f.Zone != 0 {
		b = appendUint16(b, ctaZone, f.Zone)
	}
	return b
}

// appendExact appends what names a flow with its translation: the tuple of the
// answers. Under the same original one there may be another by now, which a host
// began from the same port; it may be on another uplink, and to change its mark
// would lead it out of a line that its source does not belong to. What is only led
// inside has its line in the original tuple, and another that came by another line
// from the same port may have the same answers.
func appendExact(b []byte, f *conntracksync.Flow) []byte {
	inward := f.Reply.Source != f.Original.Destination && f.Reply.Destination == f.Original.Source
	if inward || !f.Reply.Source.IsValid() {
		return appendName(b, f)
	}
	return appendAnswers(b, f)
}

// appendAnswers appends what names a flow by its answers.
func appendAnswers(b []byte, f *conntracksync.Flow) []byte {
	b = appendTuple(b, ctaTupleReply, &f.Reply)
	if f.Zone != 0 {
		b = appendUint16(b, ctaZone, f.Zone)
	}
	return b
}

// settable are the bits of the status that may be set from outside.
const settable = conntracksync.SeenReply | conntracksync.Assured

// appendCreate appends what makes a new flow.
func appendCreate(b []byte, f *conntracksync.Flow) []byte {
	b = appendName(b, f)
	plain := f.Original.Inverse()
	b = appendTuple(b, ctaTupleReply, &plain)
	b = appendTranslation(b, f)
	b = appendUint32(b, ctaTimeout, f.Timeout)
	b = appendUint32(b, ctaStatus, uint32(f.Status&settable|conntracksync.Confirmed))
	b = appendState(b, f)
	b = appendUint32(b, ctaMark, f.Mark)
	if f.Helper != "" {
		var at int
		b, at = open(b, ctaHelp)
		b = shut(appendBytes(b, ctaHelpName, append([]byte(f.Helper), 0)...), at)
	}
	if f.Master.Source.IsValid() {
		b = appendTuple(b, ctaTupleMaster, &f.Master)
	}
	return appendLabels(appendAdjust(b, f), f)
}

// appendUpdate appends what changes a flow that is there. Its translation and
// its master stay what they were: the kernel refuses any word about them.
func appendUpdate(b []byte, f *conntracksync.Flow, status bool) []byte {
	b = appendExact(b, f)
	b = appendUint32(b, ctaTimeout, f.Timeout)
	if status {
		b = appendUint32(b, ctaStatus, uint32(f.Status&(settable|conntracksync.Expected)|conntracksync.Confirmed))
	}
	b = appendState(b, f)
	b = appendUint32(b, ctaMark, f.Mark)
	return appendLabels(appendAdjust(b, f), f)
}

// appendAdjust says how sequence numbers are moved, where they are.
func appendAdjust(b []byte, f *conntracksync.Flow) []byte {
	if f.Adjust == ([2]conntracksync.Adjustment{}) {
		return b
	}
	for i, a := range f.Adjust {
		var at int
		b, at = open(b, ctaAdjustOrig+uint16(i))
		b = appendUint32(b, ctaAdjustPosition, a.Position)
		b = appendUint32(b, ctaAdjustBefore, a.Before)
		b = shut(appendUint32(b, ctaAdjustAfter, a.After), at)
	}
	return b
}

func appendLabels(b []byte, f *conntracksync.Flow) []byte {
	if f.Labels == (conntracksync.Labels{}) {
		return b
	}
	return appendBytes(b, ctaLabels, f.Labels[:]...)
}
