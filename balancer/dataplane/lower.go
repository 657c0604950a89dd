package dataplane

import (
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

func u32(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

// ifname is a device name as the kernel compares it: 16 bytes.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func op(not bool) expr.CmpOp {
	if not {
		return expr.CmpOpNeq
	}
	return expr.CmpOpEq
}

func ifaceKey(output bool) expr.MetaKey {
	if output {
		return expr.MetaKeyOIFNAME
	}
	return expr.MetaKeyIIFNAME
}

// masked is what both marks are compared and rewritten with.
func masked(mask, xor uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: u32(mask), Xor: u32(xor)}
}

func l4proto(p byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}},
	}
}

func family(nfproto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{nfproto}},
	}
}

func lookup(set string, not bool) expr.Any {
	return &expr.Lookup{SourceRegister: 1, SetName: set, Invert: not}
}

// routeTypes are the kernel's RTN_* of the words that nft uses.
var routeTypes = map[string]uint32{"unicast": unix.RTN_UNICAST, "local": unix.RTN_LOCAL, "broadcast": unix.RTN_BROADCAST, "multicast": unix.RTN_MULTICAST}

// ipsDstNAT is the kernel's IPS_DST_NAT (nf_conntrack_common.h).
const ipsDstNAT = 1 << 5

var limitUnits = map[string]expr.LimitTime{"second": expr.LimitTimeSecond, "minute": expr.LimitTimeMinute, "hour": expr.LimitTimeHour}

var verdicts = map[string]expr.VerdictKind{
	"accept": expr.VerdictAccept, "drop": expr.VerdictDrop, "return": expr.VerdictReturn,
	"jump": expr.VerdictJump, "goto": expr.VerdictGoto,
}

func verdict(j balancer.Jump) *expr.Verdict {
	return &expr.Verdict{Kind: verdicts[j.Kind], Chain: j.Chain}
}

// lower turns one statement into the kernel's expressions.
func lower(s balancer.Stmt) ([]expr.Any, error) {
	switch s := s.(type) {
	case balancer.Family4:
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
			&expr.Cmp{Op: op(s.Not), Register: 1, Data: []byte{unix.NFPROTO_IPV4}},
		}, nil
	case balancer.InSet:
		return []expr.Any{&expr.Meta{Key: ifaceKey(s.Output), Register: 1}, lookup(s.Set, s.Not)}, nil
	case balancer.AddrIn:
		proto, offset, length := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
		if s.Six {
			proto, offset, length = unix.NFPROTO_IPV6, 8, 16
		}
		if s.Dst { // it stands behind the source
			offset += length
		}
		return append(family(proto),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
			lookup(s.Set, false)), nil
	case balancer.ProtoIn:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, lookup(s.Set, s.Not)}, nil
	case balancer.FibType:
		return []expr.Any{
			&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagSADDR: s.Source, FlagDADDR: !s.Source, FlagOIF: s.OnOutput},
			&expr.Cmp{Op: op(s.Not), Register: 1, Data: u32(routeTypes[s.Type])},
		}, nil
	case balancer.State:
		return []expr.Any{
			&expr.Ct{Key: expr.CtKeySTATE, Register: 1}, masked(uint32(s.States), 0),
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: u32(0)},
		}, nil
	case balancer.CtMarked:
		return []expr.Any{
			&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, masked(s.Mask, 0),
			&expr.Cmp{Op: op(!s.Not), Register: 1, Data: u32(0)},
		}, nil
	case balancer.MetaMarked:
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, masked(s.Mask, 0),
			&expr.Cmp{Op: op(!s.Not), Register: 1, Data: u32(0)},
		}, nil
	case balancer.Unmarked:
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: u32(0)},
		}, nil
	case balancer.CtMarkIn:
		return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, masked(s.Mask, 0), lookup(s.Set, false)}, nil
	case balancer.CopyMark:
		return []expr.Any{
			&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, masked(s.Mask, 0),
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
		}, nil
	case balancer.CameIn:
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIF, Register: 1},
			&expr.Cmp{Op: op(!s.Not), Register: 1, Data: u32(0)},
		}, nil
	case balancer.TCPFlags:
		return append(l4proto(unix.IPPROTO_TCP),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{s.Mask}, Xor: []byte{0}},
			&expr.Cmp{Op: op(s.Not), Register: 1, Data: []byte{s.Value}}), nil
	case balancer.EchoRequest:
		return append(l4proto(unix.IPPROTO_ICMP),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{8}}), nil
	case balancer.NoListener: // type 3, codes 2 and 3 (RFC 792)
		return append(l4proto(unix.IPPROTO_ICMP),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{3}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 1, Len: 1},
			&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{2}},
			&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{3}}), nil
	case balancer.Neighbour: // types 135 and 136 (RFC 4861 §4.3, §4.4)
		return append(l4proto(unix.IPPROTO_ICMPV6),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
			&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{135}},
			&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{136}}), nil
	case balancer.Listener:
		return []expr.Any{
			&expr.Socket{Key: expr.SocketKeyMark, Register: 1}, masked(0, 0),
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: u32(0)},
		}, nil
	case balancer.Learned:
		return append(ends(s.Of, 1, pairRegister), lookup(s.Set, false)), nil
	case balancer.Learn:
		return append(ends(s.Of, 1, pairRegister),
			&expr.Dynset{SrcRegKey: 1, SetName: s.Set, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: s.Lasts}), nil
	case balancer.Want:
		return append(ends(balancer.ByDestination, 1, 0),
			&expr.Payload{DestRegister: pairRegister, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Dynset{SrcRegKey: 1, SetName: s.Set, Operation: unix.NFT_DYNSET_OP_ADD, Timeout: s.Lasts}), nil
	case balancer.Serves:
		return append(ends(balancer.ByDestination, 1, 0), transport(2, 2, pairRegister), lookup(s.Set, s.Not)), nil
	case balancer.Queue:
		return []expr.Any{&expr.Queue{Num: s.Num, Total: 1, Flag: expr.QueueFlagBypass}}, nil
	case balancer.LimitOver:
		return []expr.Any{&expr.Limit{Type: expr.LimitTypePktBytes, Rate: s.Bytes, Over: true, Unit: expr.LimitTimeSecond, Burst: uint32(min(s.Burst, 1<<32-1))}}, nil
	case balancer.Fill:
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
			&expr.Dynset{SrcRegKey: 1, SetName: s.Set, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: s.Lasts},
		}, nil
	case balancer.VMap:
		return append(selector(s), &expr.Lookup{SourceRegister: 1, SetName: s.Map, DestRegister: 0, IsDestRegSet: true}), nil
	case balancer.SetCtMark:
		return []expr.Any{
			&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, masked(^s.Mask, s.Value),
			&expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true},
		}, nil
	case balancer.SetMetaMark:
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, masked(^s.Mask, s.Value),
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
		}, nil
	case balancer.Counter:
		return []expr.Any{&expr.Counter{}}, nil
	case balancer.SNAT:
		return []expr.Any{
			&expr.Immediate{Register: 1, Data: s.To.AsSlice()},
			&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
		}, nil
	case balancer.DNAT:
		to := &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1}
		out := []expr.Any{&expr.Immediate{Register: 1, Data: s.To.AsSlice()}}
		if s.Port != 0 {
			out = append(out, &expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(s.Port)})
			to.RegProtoMin = 2
		}
		return append(out, to), nil
	case balancer.DestinationPort:
		out := append(l4proto(s.Protocol), selector(balancer.VMap{By: balancer.ByDport})...)
		first, last := binaryutil.BigEndian.PutUint16(s.Ports.First), binaryutil.BigEndian.PutUint16(s.Ports.Last)
		if s.Ports.First == s.Ports.Last {
			return append(out, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: first}), nil
		}
		return append(out, &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: first, ToData: last}), nil
	case balancer.Redirected:
		return []expr.Any{
			&expr.Ct{Key: expr.CtKeySTATUS, Register: 1}, masked(ipsDstNAT, 0),
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: u32(0)},
		}, nil
	case balancer.RateOver:
		return []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(s.Count), Over: true, Unit: limitUnits[s.Unit], Burst: s.Count}}, nil
	case balancer.Layer4:
		return l4proto(s.Protocol), nil
	case balancer.ICMP6:
		out := append(family(unix.NFPROTO_IPV6), l4proto(unix.IPPROTO_ICMPV6)...)
		out = append(out, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1})
		if s.First == s.Last {
			return append(out, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{s.First}}), nil
		}
		return append(out, &expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{s.First}},
			&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{s.Last}}), nil
	case balancer.SourceBehind:
		return []expr.Any{
			sourceBehind(),
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifname(s.Device)},
		}, nil
	case balancer.SourceElsewhere:
		return []expr.Any{sourceHere(), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: u32(0)}}, nil
	case balancer.OutOfTunnel:
		return []expr.Any{&expr.Meta{Key: metaSecpath, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}}}, nil
	case balancer.IntoTunnel:
		return []expr.Any{&expr.Rt{Key: rtXFRM, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{1}}}, nil
	case balancer.Within:
		return inNetwork(s), nil
	case balancer.WayOver:
		return []expr.Any{
			&expr.Fib{Register: 1, ResultOIFNAME: true, FlagDADDR: true, FlagMARK: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifname(s.Device)},
		}, nil
	case balancer.NoWay:
		return []expr.Any{
			&expr.Fib{Register: 1, ResultOIF: true, FlagDADDR: true, FlagMARK: true, FlagPRESENT: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: u32(0)},
		}, nil
	case balancer.SourceOver:
		limit, err := lower(balancer.RateOver{Rate: s.Rate})
		if err != nil {
			return nil, err
		}
		return append(oneSource(s.Six),
			&expr.Dynset{SrcRegKey: 1, SetName: s.Set, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: s.Lasts, Exprs: limit}), nil
	case balancer.SourceWithout:
		return append(oneSource(s.Six), lookup(s.Set, true)), nil
	case balancer.FitMSS: // option 2, whose size stands in two bytes behind kind and length
		return []expr.Any{
			&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
			&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 2, Size: 2},
			&expr.Exthdr{SourceRegister: 1, Type: 2, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
		}, nil
	case balancer.Log:
		return []expr.Any{
			&expr.Limit{Type: expr.LimitTypePkts, Rate: 1, Unit: expr.LimitTimeSecond, Burst: 5},
			&expr.Log{Key: 1 << unix.NFTA_LOG_PREFIX, Data: []byte(s.Prefix)},
		}, nil
	case balancer.Masquerade:
		return []expr.Any{&expr.Masq{}}, nil
	case balancer.EndsIn:
		ends := append(family(unix.NFPROTO_IPV4), l4proto(unix.IPPROTO_TCP)...)
		return append(ends, network(12, 4, 1), transport(0, 2, unix.NFT_REG32_01), network(16, 4, unix.NFT_REG32_02), transport(2, 2, unix.NFT_REG32_03),
			lookup(s.Set, false)), nil
	case balancer.OfPriority:
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: 1},
			&expr.Cmp{Op: op(s.Not), Register: 1, Data: u32(s.Value)},
		}, nil
	case balancer.NoTrack:
		return []expr.Any{&expr.Notrack{}}, nil
	case balancer.Reset:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}, nil
	case balancer.Prohibited:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}, nil
	case balancer.Jump:
		return []expr.Any{verdict(s)}, nil
	}
	return nil, fmt.Errorf("lower %v (%T): no such statement", s, s)
}

// Keys of the kernel (enum nft_meta_keys, nft_rt_keys) that no library names.
const (
	metaSecpath expr.MetaKey = 25 // NFT_META_SECPATH
	rtXFRM      expr.RtKey   = 4  // NFT_RT_XFRM
)

// oneSource is what counts as one source of a packet: of IPv6 its network of /64.
func oneSource(six bool) []expr.Any {
	if six {
		return append(family(unix.NFPROTO_IPV6), network(8, 16, 1), prefixOf(64, 16))
	}
	return ends(balancer.BySource, 1, pairRegister)
}

// sourceHere tells whether a route to the packet's source leads over the device by
// which it came.
func sourceHere() expr.Any {
	return &expr.Fib{Register: 1, ResultOIF: true, FlagSADDR: true, FlagMARK: true, FlagIIF: true, FlagPRESENT: true}
}

// sourceBehind finds the device over which a route leads to the packet's source.
func sourceBehind() expr.Any {
	return &expr.Fib{Register: 1, ResultOIFNAME: true, FlagSADDR: true, FlagMARK: true}
}

// inNetwork compares an address with a network.
func inNetwork(s balancer.Within) []expr.Any {
	proto, offset, length := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if s.Of.Addr().Is6() {
		proto, offset, length = unix.NFPROTO_IPV6, 8, 16
	}
	if s.Dst { // it stands behind the source
		offset += length
	}
	out := append(family(proto), network(offset, length, 1))
	if !s.Of.IsSingleIP() {
		out = append(out, prefixOf(s.Of.Bits(), length))
	}
	return append(out, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: s.Of.Masked().Addr().AsSlice()})
}

// prefixOf leaves the first bits of an address of so many bytes.
func prefixOf(bits int, length uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: net.CIDRMask(bits, int(length)*8), Xor: make([]byte, length)}
}

func selector(s balancer.VMap) []expr.Any {
	switch s.By {
	case balancer.ByInput, balancer.ByOutput:
		return []expr.Any{&expr.Meta{Key: ifaceKey(s.By == balancer.ByOutput), Register: 1}}
	case balancer.ByCtMark:
		return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, masked(s.Mask, 0)}
	case balancer.ByRandom:
		return []expr.Any{&expr.Numgen{Register: 1, Modulus: balancer.SlotCount, Type: unix.NFT_NG_RANDOM}}
	case balancer.BySaddr:
		return append(family(unix.NFPROTO_IPV4), network(12, 4, 1))
	case balancer.ByDaddr:
		return append(family(unix.NFPROTO_IPV4), network(16, 4, 1))
	case balancer.ByTOS:
		return []expr.Any{network(1, 1, 1)}
	case balancer.ByProtocol:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}}
	case balancer.BySport:
		return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2}}
	case balancer.ByDport:
		return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
	case balancer.ByMAC:
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint16(unix.ARPHRD_ETHER)},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
		}
	case balancer.ByHash:
		length := uint32(4)
		if s.Of == balancer.BySourceDestination {
			length = 8
		}
		return append(ends(s.Of, 2, hashRegister), &expr.Hash{
			SourceRegister: 2, DestRegister: 1, Length: length, Modulus: balancer.SlotCount, Seed: balancer.HashSeed, Type: expr.HashTypeJenkins,
		})
	}
	return nil
}

// Registers of a second value of four bytes: behind the first one in the 16 bytes
// of register 1 (a key of two parts) and in those of register 2 (what is hashed).
const (
	pairRegister = unix.NFT_REG32_01
	hashRegister = unix.NFT_REG32_05
)

// network loads a part of the IPv4 header.
func network(offset, length, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

// transport loads a part of the header behind it.
func transport(offset, length, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}
}

// ends loads the addresses that a policy keeps together.
func ends(k balancer.PersistenceKey, first, second uint32) []expr.Any {
	switch k {
	case balancer.BySource:
		return append(family(unix.NFPROTO_IPV4), network(12, 4, first))
	case balancer.ByDestination:
		return append(family(unix.NFPROTO_IPV4), network(16, 4, first))
	case balancer.BySourceDestination:
	}
	return append(family(unix.NFPROTO_IPV4), network(12, 4, first), network(16, 4, second))
}

func lowerRule(r balancer.Rule) ([]expr.Any, error) {
	var out []expr.Any
	for _, s := range r {
		e, err := lower(s)
		if err != nil {
			return nil, err
		}
		out = append(out, e...)
	}
	return out, nil
}

// tosType is an integer of one byte.
var tosType = func() nftables.SetDatatype {
	t := nftables.SetDatatype{Name: "integer", Bytes: 1}
	t.SetNFTMagic(nftables.TypeInteger.GetNFTMagic())
	return t
}()

// keyTypes are nft's types of our keys; numbers that come out of a mark or of
// numgen are in the machine's byte order.
func keyType(k balancer.KeyType) (nftables.SetDatatype, binaryutil.ByteOrder) {
	switch k {
	case balancer.KeyIfname:
		return nftables.TypeIFName, binaryutil.NativeEndian
	case balancer.KeyAddr4:
		return nftables.TypeIPAddr, nil
	case balancer.KeyAddr6:
		return nftables.TypeIP6Addr, nil
	case balancer.KeyMark, balancer.KeySlot:
		return nftables.TypeMark, binaryutil.NativeEndian
	case balancer.KeyProto:
		return nftables.TypeNFProto, nil
	case balancer.KeyProtocol:
		return nftables.TypeInetProto, nil
	case balancer.KeyTOS:
		return tosType, binaryutil.BigEndian
	case balancer.KeyPort:
		return nftables.TypeInetService, nil
	case balancer.KeyMAC:
		return nftables.TypeEtherAddr, nil
	case balancer.KeyService:
		return nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService), nil
	case balancer.KeyPair:
		return nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr), nil
	case balancer.KeyEnds:
		return nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService, nftables.TypeIPAddr, nftables.TypeInetService), nil
	}
	return nftables.TypeInvalid, nil
}

func key(k balancer.KeyType, e balancer.Element) []byte {
	switch k {
	case balancer.KeyIfname:
		return ifname(e.Ifname)
	case balancer.KeyAddr4, balancer.KeyAddr6:
		return e.Addr.AsSlice()
	case balancer.KeyMark, balancer.KeySlot:
		return u32(e.Mark)
	case balancer.KeyProto:
		return []byte{unix.NFPROTO_IPV4}
	case balancer.KeyProtocol, balancer.KeyTOS, balancer.KeyPort, balancer.KeyMAC, balancer.KeyPair, balancer.KeyEnds, balancer.KeyService: // spans all, or not ours to write
	}
	return nil
}
