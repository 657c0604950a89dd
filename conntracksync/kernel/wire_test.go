package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	ct "harouter/conntracksync"
)

var equalAddr = cmpopts.EquateComparable(netip.Addr{})

// nest appends an attribute with that payload.
func nest(b []byte, attr uint16, payload []byte) []byte {
	b = native.AppendUint16(b, uint16(sizeAttr+len(payload)))
	b = native.AppendUint16(b, attr)
	b = append(b, payload...)
	return append(b, make([]byte, -len(payload)&3)...)
}

func num16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func tuple(t ct.Tuple) []byte {
	var addrs []byte
	for i, a := range []netip.Addr{t.Source, t.Destination} {
		switch {
		case a.Is4():
			addrs = nest(addrs, ctaIPv4Src+uint16(i), a.AsSlice())
		case a.Is6():
			addrs = nest(addrs, ctaIPv6Src+uint16(i), a.AsSlice())
		}
	}
	proto := nest(nil, ctaProtoNum, []byte{byte(t.Protocol)})
	proto = nest(proto, ctaProtoSrcPort, num16(t.SourcePort))
	proto = nest(proto, ctaProtoDstPort, num16(t.DestinationPort))
	proto = nest(proto, ctaProtoICMPID, num16(t.ID))
	proto = nest(proto, ctaProtoICMPType, []byte{t.Type})
	proto = nest(proto, ctaProtoICMPCode, []byte{t.Code})
	return nest(nest(nil, ctaTupleIP, addrs), ctaTupleProto|unix.NLA_F_NESTED, proto)
}

// entry writes a connection as the kernel does.
func entry(f ct.Flow) []byte {
	b := []byte{unix.AF_INET, 0, 0, 0}
	b = nest(b, ctaTupleOrig|unix.NLA_F_NESTED, tuple(f.Original))
	b = nest(b, ctaTupleReply|unix.NLA_F_NESTED, tuple(f.Reply))
	b = nest(b, ctaTupleMaster|unix.NLA_F_NESTED, tuple(f.Master))
	b = appendUint32(b, ctaID, f.ID)
	b = nest(b, 11, []byte{1, 2, 3, 4}) // CTA_USE: passed over
	b = appendUint32(b, ctaStatus, uint32(f.Status))
	b = appendUint32(b, ctaTimeout, f.Timeout)
	b = nest(b, ctaZone, num16(f.Zone))
	tcp := nest(nil, ctaTCPState, []byte{byte(f.TCP.State)})
	tcp = nest(tcp, ctaTCPScaleOrig, []byte{f.TCP.OriginalScale})
	tcp = nest(tcp, ctaTCPScaleReply, []byte{f.TCP.ReplyScale})
	tcp = nest(tcp, ctaTCPFlagsOrig, []byte{byte(f.TCP.OriginalFlags), 0})
	tcp = nest(tcp, ctaTCPFlagsReply, []byte{byte(f.TCP.ReplyFlags), 0})
	sctp := nest(nil, ctaSCTPState, []byte{f.SCTP.State})
	sctp = appendUint32(sctp, ctaSCTPTagOrig, f.SCTP.OriginalTag)
	sctp = appendUint32(sctp, ctaSCTPTagReply, f.SCTP.ReplyTag)
	b = nest(b, ctaProtoInfo|unix.NLA_F_NESTED, nest(nest(nil, ctaProtoInfoTCP, tcp), ctaProtoInfoSCTP, sctp))
	b = nest(b, ctaLabels, f.Labels[:])
	b = nest(b, ctaHelp, nest(nil, ctaHelpName, append([]byte(f.Helper), 0)))
	b = appendAdjust(b, &f)
	return appendUint32(b, ctaMark, f.Mark)
}

var sample = ct.Flow{
	Original: ct.Tuple{Source: netip.MustParseAddr("192.168.77.9"), Destination: netip.MustParseAddr("198.51.100.1"),
		Protocol: ct.UDP, SourcePort: 4000, DestinationPort: 53},
	Reply: ct.Tuple{Source: netip.MustParseAddr("198.51.100.1"), Destination: netip.MustParseAddr("203.0.113.10"),
		Protocol: ct.UDP, SourcePort: 53, DestinationPort: 1024},
	Mark: 0x5100, Status: ct.SeenReply | ct.Assured | ct.SourceNAT, Timeout: 30,
}

var sampleTCP = ct.Flow{
	Original: ct.Tuple{Source: netip.MustParseAddr("192.168.77.9"), Destination: netip.MustParseAddr("198.51.100.1"),
		Protocol: ct.TCP, SourcePort: 4000, DestinationPort: 20},
	Reply: ct.Tuple{Source: netip.MustParseAddr("198.51.100.1"), Destination: netip.MustParseAddr("203.0.113.10"),
		Protocol: ct.TCP, SourcePort: 20, DestinationPort: 1024},
	ID: 99, Zone: 3, Status: ct.SeenReply | ct.Assured | ct.Expected, Timeout: 432000,
	TCP:  ct.TCPInfo{State: ct.Established, OriginalFlags: ct.WindowScale, ReplyFlags: ct.SACK, OriginalScale: 7, ReplyScale: 8},
	SCTP: ct.SCTPInfo{State: 3, OriginalTag: 1, ReplyTag: 2}, Labels: ct.Labels{1, 15: 2}, Helper: "strange",
	Master: ct.Tuple{Source: netip.MustParseAddr("192.168.77.9"), Destination: netip.MustParseAddr("198.51.100.1"),
		Protocol: ct.TCP, SourcePort: 4001, DestinationPort: 21},
	Adjust: [2]ct.Adjustment{{Position: 1, Before: 2, After: 3}, {After: 4}},
}

var sample6 = ct.Flow{
	Original: ct.Tuple{Source: netip.MustParseAddr("2001:db8::1"), Destination: netip.MustParseAddr("2001:db8::2"),
		Protocol: ct.ICMPv6, ID: 77, Type: 128},
	Reply: ct.Tuple{Source: netip.MustParseAddr("2001:db8::2"), Destination: netip.MustParseAddr("2001:db8::1"),
		Protocol: ct.ICMPv6, ID: 77, Type: 129},
}

func TestParse(t *testing.T) {
	var got ct.Flow
	for _, want := range []ct.Flow{sample, sample6, sampleTCP, {}} {
		if err := Parse(entry(want), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, equalAddr); diff != "" {
			t.Errorf("flow (-want +got):\n%s", diff)
		}
	}
	whole := entry(sample)
	for name, b := range map[string][]byte{
		"nothing":                 nil,
		"half a header":           whole[:3],
		"half an attribute":       whole[:len(whole)-2],
		"an attribute of 3 bytes": {0, 0, 0, 0, 3, 0, 8, 0},
		"a mark of 2 bytes":       nest([]byte{0, 0, 0, 0}, ctaMark, []byte{1, 2}),
		"an address of 3 bytes": nest([]byte{0, 0, 0, 0}, ctaTupleOrig,
			nest(nil, ctaTupleIP, nest(nil, ctaIPv4Src, []byte{1, 2, 3}))),
		"IPv6 as IPv4": nest([]byte{0, 0, 0, 0}, ctaTupleOrig,
			nest(nil, ctaTupleIP, nest(nil, ctaIPv4Src, make([]byte, 16)))),
		"a helper of 16 bytes": nest([]byte{0, 0, 0, 0}, ctaHelp, nest(nil, ctaHelpName, bytes.Repeat([]byte("x"), 16))),
		"labels of 17 bytes":   nest([]byte{0, 0, 0, 0}, ctaLabels, make([]byte, 17)),
		"flags of 1 byte": nest([]byte{0, 0, 0, 0}, ctaProtoInfo, nest(nil, ctaProtoInfoTCP,
			nest(nil, ctaTCPFlagsOrig, []byte{1}))),
		"a port of 1 byte": nest([]byte{0, 0, 0, 0}, ctaTupleReply,
			nest(nil, ctaTupleProto, nest(nil, ctaProtoSrcPort, []byte{1}))),
		"a protocol of 2 bytes": nest([]byte{0, 0, 0, 0}, ctaTupleReply,
			nest(nil, ctaTupleProto, nest(nil, ctaProtoNum, []byte{1, 2}))),
	} {
		if err := Parse(b, &got); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	b := entry(sample)
	var f ct.Flow
	if n := testing.AllocsPerRun(100, func() {
		if err := Parse(b, &f); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per connection", n)
	}
}

// message writes a netlink message.
func message(kind, flags uint16, seq uint32, payload []byte) []byte {
	b := native.AppendUint32(nil, uint32(sizeHeader+len(payload)))
	b = native.AppendUint16(b, kind)
	b = native.AppendUint16(b, flags)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0)
	b = append(b, payload...)
	return append(b, make([]byte, -len(payload)&3)...)
}

func code(e int32) []byte { return native.AppendUint32(nil, uint32(e)) }

const newFlow = unix.NFNL_SUBSYS_CTNETLINK<<8 | msgNew

func TestMessages(t *testing.T) {
	join := func(ms ...[]byte) (b []byte) {
		for _, m := range ms {
			b = append(b, m...)
		}
		return b
	}
	one, multi := entry(sample), uint16(unix.NLM_F_MULTI)
	for _, c := range []struct {
		name    string
		b       []byte
		entries int
		done    bool
		err     error
	}{
		{"nothing", nil, 0, false, nil},
		{"two connections", join(message(newFlow, multi, 7, one), message(newFlow, multi, 7, one)), 2, false, nil},
		{"the last of a dump", join(message(newFlow, multi, 7, one), message(unix.NLMSG_DONE, multi, 7, code(0))), 1, true, nil},
		{"a dump that failed", message(unix.NLMSG_DONE, multi, 7, code(-int32(unix.ENOMEM))), 0, true, unix.ENOMEM},
		{"acknowledged", message(unix.NLMSG_ERROR, 0, 7, code(0)), 0, true, nil},
		{"refused", message(unix.NLMSG_ERROR, 0, 7, code(-int32(unix.EPERM))), 0, true, unix.EPERM},
		{"dump interrupted", join(message(newFlow, multi, 7, one), message(newFlow, multi|unix.NLM_F_DUMP_INTR, 7, one)), 1, false, errAgain},
		{"interrupted at the end", message(unix.NLMSG_DONE, multi|unix.NLM_F_DUMP_INTR, 7, code(0)), 0, false, errAgain},
		{"overrun", message(unix.NLMSG_OVERRUN, 0, 7, nil), 0, false, errAgain},
		{"another request's", join(message(unix.NLMSG_ERROR, 0, 6, code(-1)), message(newFlow, multi, 7, one)), 1, false, nil},
		{"half a header", join(message(newFlow, multi, 7, one), make([]byte, 8)), 1, false, errTruncated},
		{"longer than the datagram", message(newFlow, multi, 7, one)[:40], 0, false, errTruncated},
		{"an error without a number", message(unix.NLMSG_ERROR, 0, 7, nil), 0, false, errTruncated},
		{"a broken connection", message(newFlow, multi, 7, one[:len(one)-2]), 0, false, errTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			entries := 0
			var f ct.Flow
			done, err := messages(c.b, 7, func(b []byte) error {
				if err := Parse(b, &f); err != nil {
					return err
				}
				entries++
				return nil
			})
			if entries != c.entries || done != c.done || !errors.Is(err, c.err) {
				t.Errorf("%d entries, done %v, %v; want %d, %v, %v", entries, done, err, c.entries, c.done, c.err)
			}
		})
	}
}

func TestRetry(t *testing.T) {
	for _, c := range []struct {
		name          string
		fails         int // how often the answer is incomplete
		err           error
		wantTries     int
		wantRestarted int
	}{
		{"whole at once", 0, nil, 1, 0},
		{"whole the third time", 2, nil, 3, 2},
		{"refused the second time", 1, unix.EPERM, 2, 1},
		{"never whole", 99, errAgain, tries, tries - 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			tried, restarted := 0, 0
			err := retry(func() { restarted++ }, func(n int) error {
				if tried++; n != tried {
					t.Errorf("try %d is called %d", tried, n)
				}
				if tried <= c.fails {
					return errAgain
				}
				return c.err
			})
			if !errors.Is(err, c.err) || tried != c.wantTries || restarted != c.wantRestarted {
				t.Errorf("%v after %d tries and %d restarts; want %v, %d, %d",
					err, tried, restarted, c.err, c.wantTries, c.wantRestarted)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, flow := range []ct.Flow{sample, sample6, sampleTCP, {}} {
		b := entry(flow)
		f.Add(b)
		f.Add(b[:len(b)-5])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var flow, again ct.Flow
		if Parse(b, &flow) != nil {
			return
		}
		if err := Parse(entry(flow), &again); err != nil || again != flow {
			t.Fatalf("%x: %+v, written and read again: %+v, %v", b, flow, again, err)
		}
	})
}

func FuzzMessages(f *testing.F) {
	f.Add(message(newFlow, 0, 7, entry(sample)))
	f.Add(append(message(newFlow, 0, 7, entry(sample6)), message(unix.NLMSG_DONE, 0, 7, code(0))...))
	f.Add(message(unix.NLMSG_ERROR, 0, 7, code(-1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		room := len(b)
		done, err := messages(b, 7, func(p []byte) error {
			if room -= sizeHeader + len(p); room < 0 {
				t.Fatalf("%x: more connections than bytes", b)
			}
			return nil
		})
		var errno syscall.Errno
		if err != nil && !errors.Is(err, errAgain) && !errors.Is(err, errTruncated) && !errors.As(err, &errno) {
			t.Fatalf("%x: done %v, %v", b, done, err)
		}
	})
}
