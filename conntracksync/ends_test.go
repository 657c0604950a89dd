package conntracksync_test

import (
	"net/netip"
	"testing"

	"harouter/conntracksync"
)

func TestEnds(t *testing.T) {
	tuple := func(from, to string, p conntracksync.Protocol) conntracksync.Tuple {
		a, b := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
		return conntracksync.Tuple{Source: a.Addr(), Destination: b.Addr(), Protocol: p, SourcePort: a.Port(), DestinationPort: b.Port()}
	}
	const tcp = conntracksync.TCP
	out, answer := tuple("192.168.77.10:4000", "198.51.100.1:80", tcp), tuple("198.51.100.1:80", "203.0.113.10:4000", tcp)
	for _, test := range []struct {
		name            string
		original, reply conntracksync.Tuple
		state           conntracksync.TCPState
		host, peer      string
	}{
		{"from the lan", out, answer, conntracksync.Established, "192.168.77.10:4000", "198.51.100.1:80"},
		{"not translated", out, out.Inverse(), conntracksync.Established, "192.168.77.10:4000", "198.51.100.1:80"},
		{"the host has closed", out, answer, conntracksync.FINWait, "192.168.77.10:4000", "198.51.100.1:80"},
		{"the peer has closed", out, answer, conntracksync.CloseWait, "192.168.77.10:4000", "198.51.100.1:80"},
		{"to a server in the lan", tuple("198.51.100.1:5000", "203.0.113.10:443", tcp), tuple("192.168.77.20:8443", "198.51.100.1:5000", tcp),
			conntracksync.Established, "192.168.77.20:8443", "198.51.100.1:5000"},
		{"by both translations", out, tuple("198.51.100.7:8080", "203.0.113.10:4000", tcp), conntracksync.Established, "192.168.77.10:4000", "198.51.100.1:80"},
		{"not answered yet", out, answer, conntracksync.SYNSent, "", ""},
		{"over", out, answer, conntracksync.TimeWait, "", ""},
		{"udp", tuple("192.168.77.10:4000", "198.51.100.1:80", conntracksync.UDP), tuple("198.51.100.1:80", "203.0.113.10:4000", conntracksync.UDP), 0, "", ""},
	} {
		f := conntracksync.Flow{Original: test.original, Reply: test.reply}
		f.TCP.State = test.state
		host, peer, ok := f.Ends()
		if ok != (test.host != "") || ok && (host.String() != test.host || peer.String() != test.peer) {
			t.Errorf("%s: %v, %v, %v; want %s, %s", test.name, host, peer, ok, test.host, test.peer)
		}
	}
}
