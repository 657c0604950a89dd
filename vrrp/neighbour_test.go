package vrrp

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

// TestSolicitation: the packet is that of RFC 4861 §4.3, as another implementation
// reads it.
func TestSolicitation(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, c := range []struct {
		name, dst, to string
		wide          bool
	}{
		{"to one", "fd00::12:3456", "", false},
		{"to all who could have it", "ff02::1:ff12:3456", "33:33:ff:12:34:56", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, to := Solicitation(netip.MustParseAddr("fe80::2"), netip.MustParseAddr("fd00::12:3456"), mac, c.wide)
			h, err := ipv6.ParseHeader(b)
			if err != nil || h.HopLimit != 255 || h.NextHeader != 58 || h.PayloadLen != len(b)-40 || h.Src.String() != "fe80::2" || h.Dst.String() != c.dst || net.HardwareAddr(to).String() != c.to {
				t.Fatalf("%+v %v %v", h, to, err)
			}
			want, err := (&icmp.Message{Type: ipv6.ICMPTypeNeighborSolicitation, Body: &icmp.RawBody{Data: b[44:]}}).Marshal(icmp.IPv6PseudoHeader(h.Src, h.Dst))
			if err != nil || !bytes.Equal(want, b[40:]) {
				t.Errorf("%x, want %x, %v", b[40:], want, err)
			}
			if _, _, ok := Neighbour(b); ok {
				t.Error("a question is taken for an answer")
			}
		})
	}
}

// FuzzNeighbour: whatever comes from the wire, nothing breaks, and only answers
// count.
func FuzzNeighbour(f *testing.F) {
	at := netip.MustParseAddr("fe80::2")
	b, _ := Solicitation(at, at, net.HardwareAddr{2, 0, 0, 0, 0, 1}, false)
	b[40], b[44], b[64] = NeighbourAdvertisement, solicited, targetOption
	if ip, mac, ok := Neighbour(b); !ok || ip != at || net.HardwareAddr(mac).String() != "02:00:00:00:00:01" {
		f.Fatalf("%v %v %v", ip, mac, ok)
	}
	f.Add(b)
	f.Add(b[:64])
	f.Add(b[:63])
	f.Fuzz(func(t *testing.T, b []byte) {
		ip, mac, ok := Neighbour(b)
		if ok && (!ip.Is6() || mac != nil && len(mac) != 6 || b[6] != 58 || b[7] != 255 || b[40] != 136) {
			t.Errorf("%x: %v %v", b, ip, mac)
		}
	})
}
