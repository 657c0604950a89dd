package notice

import (
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
)

func TestSegment(t *testing.T) {
	b := segment(balancer.Ends{
		Host: netip.MustParseAddrPort("192.168.77.10:40000"), Peer: netip.MustParseAddrPort("198.51.100.1:443"),
	}, 0x01020304, 0x05060708)
	got := []string{hex.EncodeToString(b[:12]), hex.EncodeToString(b[12:20]), hex.EncodeToString(b[20:24]), hex.EncodeToString(b[24:36]), hex.EncodeToString(b[38:])}
	want := []string{
		"450000280000400040060000", // 40 bytes, DF, TTL 64, TCP
		"c6336401c0a84d0a",         // from the peer to the host
		"01bb9c40",                 // 443 to 40000
		"01020304050607085010ffff", // 20 bytes, ACK, window
		"0000",                     // not urgent
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if sum := checksum(b[12:20], b[20:]); sum != 0 {
		t.Errorf("the checksum over all is %#04x, want 0", sum)
	}
}
