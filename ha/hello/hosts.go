package hello

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"harouter/ha"
)

// mostHosts is how many are told of each lan.
const mostHosts = 8

// lately ranks what the kernel knows of a neighbour: the lower, the surer that
// it was there a short time ago. Others were not there.
var lately = map[int]int{unix.NUD_REACHABLE: 1, unix.NUD_DELAY: 2, unix.NUD_PROBE: 3, unix.NUD_STALE: 4}

// seen are hosts that this machine spoke with on a device, the surest first.
func seen(index int, networks []netip.Prefix) ([]netip.Addr, error) {
	all, err := netlink.NeighList(index, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("read the neighbours: %w", err)
	}
	type host struct {
		rank int
		ip   netip.Addr
	}
	var hosts []host
	for _, n := range all {
		ip, ok := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		if rank := lately[n.State]; ok && rank > 0 && slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Masked().Contains(ip) }) {
			hosts = append(hosts, host{rank, ip})
		}
	}
	slices.SortFunc(hosts, func(a, b host) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		return a.ip.Compare(b.ip)
	})
	var out []netip.Addr
	for _, h := range hosts[:min(len(hosts), mostHosts)] {
		out = append(out, h.ip)
	}
	return out, nil
}

// asking is a look that goes on.
type asking struct {
	ha.Look
	ear *ear
}

// onlyReplies keeps the requests of a busy segment out. A cooked socket begins
// at the ARP header.
var onlyReplies = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(arp.OperationReply), SkipTrue: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: 64},
}

// ask sends one request to each host. One with sender 0.0.0.0 changes nobody's
// table (RFC 5227 §2.1.1); it is answered as well.
func (a *asking) ask() error {
	source := a.Source
	if !source.IsValid() {
		source = netip.IPv4Unspecified()
	}
	for _, h := range a.Hosts {
		p, err := arp.NewPacket(arp.OperationRequest, a.ear.mac, source, make(net.HardwareAddr, 6), h)
		if err != nil {
			return fmt.Errorf("ask for %v: %w", h, err)
		}
		b, err := p.MarshalBinary()
		if err != nil {
			return fmt.Errorf("ask for %v: %w", h, err)
		}
		if err := a.ear.broadcast(b); err != nil {
			return fmt.Errorf("ask for %v: %w", h, err)
		}
	}
	return nil
}

// answers tells whether an ARP packet is the answer of a host that was asked.
func (a *asking) answers(b []byte) bool {
	var p arp.Packet
	return p.UnmarshalBinary(b) == nil && p.Operation == arp.OperationReply && p.HardwareType == 1 &&
		p.ProtocolType == uint16(ethernet.EtherTypeIPv4) && p.SenderIP.Is4() && slices.Contains(a.Hosts, p.SenderIP)
}
