package conntracksync

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var equalAddr = cmpopts.EquateComparable(netip.Addr{})

// The addresses of a site: clients behind the NAT address of one of two uplinks.
var (
	nat4    = [2]netip.Addr{netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("203.0.113.140")}
	server4 = netip.MustParseAddr("198.51.100.1")
)

// natted is a TCP connection of a LAN host, number n of many.
func natted(n int) Flow {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	client := netip.AddrFrom4([4]byte{192, 168, 77, byte(2 + r.IntN(200))})
	server := netip.AddrFrom4([4]byte{198, byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
	line := r.IntN(2)
	f := Flow{
		Original: Tuple{Source: client, Destination: server, Protocol: TCP, SourcePort: uint16(n), DestinationPort: 443},
		Reply:    Tuple{Source: server, Destination: nat4[line], Protocol: TCP, SourcePort: 443, DestinationPort: uint16(n)},
		Mark:     uint32(line+1) << 8, Status: SeenReply | Assured | Confirmed | SourceNAT,
		TCP: TCPInfo{State: Established, OriginalFlags: WindowScale | SACK, ReplyFlags: WindowScale | SACK, OriginalScale: 7, ReplyScale: 9},
	}
	if f.Original.SourcePort < 1024 {
		f.Original.SourcePort += 20000
		f.Reply.DestinationPort += 20000
	}
	return f
}

// plain is a flow that nobody translates.
func plain(t Tuple) Flow { return Flow{Original: t, Reply: t.Inverse(), Status: Confirmed} }

var six = [2]netip.Addr{netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr("2001:db8:1::1")}

// kinds are flows of every kind there is.
func kinds() map[string]Flow {
	m := map[string]Flow{
		"tcp through nat": natted(1),
		"udp6":            plain(Tuple{Source: six[0], Destination: six[1], Protocol: UDP, SourcePort: 4000, DestinationPort: 53}),
		"icmp":            plain(Tuple{Source: nat4[0], Destination: server4, Protocol: ICMP, ID: 77, Type: 8}),
		"icmpv6":          plain(Tuple{Source: six[0], Destination: six[1], Protocol: ICMPv6, ID: 78, Type: 128}),
		"gre":             plain(Tuple{Source: nat4[0], Destination: server4, Protocol: GRE, SourcePort: 5, DestinationPort: 6}),
		"protocol 99":     plain(Tuple{Source: nat4[0], Destination: server4, Protocol: 99}),
		"mapped":          plain(Tuple{Source: netip.AddrFrom16(nat4[0].As16()), Destination: six[1], Protocol: UDP, SourcePort: 1, DestinationPort: 2}),
	}
	f := natted(2)
	f.Original.Destination, f.Original.DestinationPort, f.Status = nat4[1], 8080, f.Status|DestNAT
	m["both translated"] = f
	f = plain(Tuple{Source: nat4[0], Destination: server4, Protocol: SCTP, SourcePort: 5, DestinationPort: 6})
	f.SCTP, f.Zone = SCTPInfo{State: 4, OriginalTag: 1 << 31, ReplyTag: 7}, 9
	m["sctp in a zone"] = f
	f = natted(3)
	f.Labels, f.Helper, f.Timeout = Labels{1, 15: 128}, "ftp", 1<<32-1
	f.Adjust = [2]Adjustment{{Position: 1 << 31, Before: 1<<32 - 1}, {After: 7}}
	f.Master = Tuple{Source: nat4[0], Destination: server4, Protocol: TCP, SourcePort: 9, DestinationPort: 21}
	f.Status |= Expected
	m["expected, with all"] = f
	f = plain(Tuple{Source: nat4[0], Destination: server4, Protocol: ICMP, ID: 77, Type: 8})
	f.Reply.Destination, f.Reply.ID, f.Status = nat4[1], 99, f.Status|SourceNAT
	m["icmp through nat"] = f
	return m
}

func encode(flows []Flow, short bool) []byte {
	c, b := newCoder(), []byte(nil)
	for i := range flows {
		p, r := pack(&flows[i])
		b = c.append(b, uint32(i*3), &p, &r, short)
	}
	return b
}

func decode(b []byte) (flows []Flow, err error) {
	c, r := newCoder(), &reader{b: b}
	for len(r.b) > 0 {
		var f flow
		var rare rarity
		if _, _, err := c.next(r, &f, &rare); err != nil {
			return flows, err
		}
		flows = append(flows, unpack(&f, &rare))
	}
	return flows, nil
}

func TestRecords(t *testing.T) {
	var all []Flow
	for name, f := range kinds() {
		if !f.whole() {
			t.Fatalf("%s is not whole", name)
		}
		all = append(all, f)
		got, err := decode(encode([]Flow{f}, false))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff([]Flow{f}, got, equalAddr); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for range 50 { // one after the other in any order
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		b := encode(all, false)
		got, err := decode(b)
		if diff := cmp.Diff(all, got, equalAddr); diff != "" || err != nil {
			t.Fatalf("all (-want +got): %v\n%s", err, diff)
		}
		for n := range b {
			if got, err := decode(b[:n]); err == nil && len(got) == len(all) {
				t.Fatalf("%d of %d bytes are enough", n, len(b))
			}
		}
	}
}

// TestSize: half of conntrackd's 84 bytes a flow or less, and far less for a
// change and an end.
func TestSize(t *testing.T) {
	var flows []Flow
	for n := range 400 {
		flows = append(flows, natted(n+2000))
	}
	if n := len(encode(flows, false)) / len(flows); n > 24 {
		t.Errorf("%d bytes a flow", n)
	}
	if n := len(encode(flows, true)) / len(flows); n > 6 {
		t.Errorf("%d bytes a change", n)
	}
	for i := range flows {
		flows[i] = plain(Tuple{Source: six[0], Destination: netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i), 15: 1}), Protocol: UDP, SourcePort: uint16(i), DestinationPort: 53})
	}
	if n := len(encode(flows, false)) / len(flows); n > 26 {
		t.Errorf("%d bytes a flow of IPv6", n)
	}
}

func TestRecordsThatAreRefused(t *testing.T) {
	le := binary.LittleEndian
	for name, b := range map[string][]byte{
		"an unknown flag":              append(le.AppendUint16(nil, 1<<15), 0),
		"a negative number":            append(le.AppendUint16(nil, onlyState), 1),
		"a port in a change":           append(le.AppendUint16(nil, onlyState|sameTo), 0),
		"the same address, of no kind": append(le.AppendUint16(nil, sixBit|sameSource), make([]byte, 60)...),
		"a state beyond":               append(le.AppendUint16(nil, onlyState|newState), 0, 0xf8, 0, 0),
		"flags beyond":                 append(le.AppendUint16(nil, onlyState|newState), 0, 0, 0x80, 0),
		"a long helper":                append(le.AppendUint16(nil, onlyState|hasRarity), 0, rareHelper, 200),
		"an unknown rarity":            append(le.AppendUint16(nil, onlyState|hasRarity), 0, 0x80),
		"a zone in a change":           append(le.AppendUint16(nil, onlyState|hasRarity), 0, rareZone, 0, 1),
		"a mark of 40 bits":            append(le.AppendUint16(nil, onlyState|newMark), 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
	} {
		if got, err := decode(b); err == nil {
			t.Errorf("%s: read as %v", name, got)
		}
	}
}

func FuzzRecords(f *testing.F) {
	for _, flow := range kinds() {
		f.Add(encode([]Flow{flow, flow}, false))
		f.Add(encode([]Flow{flow}, true))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		type record struct {
			id    uint32
			short bool
			f     flow
			r     rarity
		}
		read := func(b []byte) (all []record, err error) {
			c, r := newCoder(), &reader{b: b}
			for len(r.b) > 0 {
				var one record
				if one.id, one.short, err = c.next(r, &one.f, &one.r); err != nil {
					return all, err
				}
				all = append(all, one)
			}
			return all, nil
		}
		all, err := read(b)
		if err != nil {
			return
		}
		c, again := newCoder(), []byte(nil)
		for i := range all {
			again = c.append(again, all[i].id, &all[i].f, &all[i].r, all[i].short)
		}
		got, err := read(again)
		if err != nil || !slices.Equal(got, all) {
			t.Fatalf("%x:\n%v\nwritten and read again, %v:\n%v", b, all, err, got)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	flows := make([]flow, 400)
	var r rarity
	for n := range flows {
		f := natted(n + 2000)
		flows[n], _ = pack(&f)
	}
	buf, size := make([]byte, 0, 1<<16), 0
	b.ReportAllocs()
	for b.Loop() {
		c := newCoder()
		for n := range flows {
			buf = c.append(buf[:0], uint32(n), &flows[n], &r, false)
			size += len(buf)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*400), "ns/flow")
	b.ReportMetric(float64(size)/float64(b.N*400), "B/flow")
}

func BenchmarkDecode(b *testing.B) {
	var flows []Flow
	for n := range 400 {
		flows = append(flows, natted(n+2000))
	}
	frame := encode(flows, false)
	b.ReportAllocs()
	for b.Loop() {
		c, r := newCoder(), &reader{b: frame}
		var f flow
		var rare rarity
		for len(r.b) > 0 {
			if _, _, err := c.next(r, &f, &rare); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*400), "ns/flow")
}
