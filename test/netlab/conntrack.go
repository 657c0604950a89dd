package netlab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Connection is an entry of a node's connection table. Ports are 0 where the
// protocol has none.
type Connection struct {
	Protocol           uint8
	Src, Dst           netip.AddrPort // as the one who began it sent it
	ReplySrc, ReplyDst netip.AddrPort // as answers come: ReplyDst is the address after SNAT
	Mark               uint32
	Timeout            uint32 // seconds left
}

// Connections lists the node's IPv4 connections whose mark, under the mask, is
// the given one; mask 0 lists all.
func (n *Node) Connections(mark, mask uint32) ([]Connection, error) {
	var found []Connection
	err := n.in(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer h.Close()
		flows, err := h.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		for _, f := range flows {
			if f.Mark&mask != mark&mask {
				continue
			}
			found = append(found, Connection{
				Protocol: f.Forward.Protocol,
				Src:      addrPort(f.Forward.SrcIP, f.Forward.SrcPort), Dst: addrPort(f.Forward.DstIP, f.Forward.DstPort),
				ReplySrc: addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort), ReplyDst: addrPort(f.Reverse.DstIP, f.Reverse.DstPort),
				Mark: f.Mark, Timeout: f.TimeOut,
			})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list connections of %s: %w", n.Name, err)
	}
	return found, nil
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}

// FlushConnections empties the node's connection table.
func (n *Node) FlushConnections() error {
	return n.in(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer h.Close()
		return h.ConntrackTableFlush(netlink.ConntrackTable)
	})
}
