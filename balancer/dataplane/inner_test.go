package dataplane

import (
	"net"
	"strings"
	"testing"
	"time"

	"harouter/test/netlab"
)

// TestInnerSourceStaysInside: what the router itself sends has no inner address
// on the way to an uplink, neither where it begins nor in an answer.
func TestInnerSourceStaysInside(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	world(t)
	master(t)
	for _, isp := range []string{"isp1", "isp2"} {
		netlab.Sh(t, "ip netns exec "+isp+` nft -f - <<'EOF'
table ip look {
	chain pre { type filter hook prerouting priority -300; ip saddr { 192.168.77.0/24, 192.168.88.0/24 } counter name inner; meta l4proto udp counter name sent; }
	counter inner { }
	counter sent { }
}
EOF`)
	}
	leaked := func() string {
		return space{t, "isp1"}.sh("nft list counter ip look inner") + space{t, "isp2"}.sh("nft list counter ip look inner")
	}
	say := func(from string) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
		for range 20 {
			c, err := d.Dial("udp4", serverAddr+":9")
			must(t, err)
			_, _ = c.Write([]byte("a word")) // refused where it is dropped
			_ = c.Close()
		}
	}
	say("192.168.77.1")
	say("192.168.88.2")
	if s := leaked(); strings.Count(s, "packets 0 ") != 2 {
		t.Errorf("an inner source left for an uplink:\n%s", s)
	}
	// Whoever sits at the ISP may ask for an inner address, and gets no answer.
	isp := space{t, "isp1"}
	isp.sh("ip route add 192.168.77.1/32 via 203.0.113.10")
	if _, _, err := isp.dial("192.168.77.1:81", 500*time.Millisecond); !isTimeout(err) {
		t.Errorf("an inner address, asked from an uplink, answers: %v", err)
	}
	if s := leaked(); strings.Count(s, "packets 0 ") != 2 {
		t.Errorf("an answer had an inner source:\n%s", s)
	}
	say("203.0.113.2") // the router's own there
	if s := isp.sh("nft list counter ip look sent"); strings.Contains(s, "packets 0 ") {
		t.Error("what has the uplink's own address does not leave")
	}
}
