package conntracksync

import (
	"net/netip"
	"testing"
)

func TestTupleString(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		tuple Tuple
		want  string
	}{
		{Tuple{Source: four, Destination: four.Next(), Protocol: UDP, SourcePort: 53, DestinationPort: 4000},
			"udp 192.0.2.1:53 > 192.0.2.2:4000"},
		{Tuple{Source: six, Destination: six.Next(), Protocol: TCP, SourcePort: 4000, DestinationPort: 443},
			"tcp [2001:db8::1]:4000 > [2001:db8::2]:443"},
		{Tuple{Source: four, Destination: four.Next(), Protocol: ICMP, ID: 7, Type: 8},
			"icmp 192.0.2.1 > 192.0.2.2 id 7 type 8 code 0"},
		{Tuple{Source: six, Destination: six.Next(), Protocol: ICMPv6, ID: 7, Type: 128},
			"icmpv6 2001:db8::1 > 2001:db8::2 id 7 type 128 code 0"},
		{Tuple{Source: four, Destination: four.Next(), Protocol: GRE}, "gre 192.0.2.1:0 > 192.0.2.2:0"},
		{Tuple{Source: four, Destination: four.Next(), Protocol: SCTP}, "sctp 192.0.2.1:0 > 192.0.2.2:0"},
		{Tuple{Source: four, Destination: four.Next(), Protocol: 99}, "protocol 99 192.0.2.1:0 > 192.0.2.2:0"},
	} {
		if got := c.tuple.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
