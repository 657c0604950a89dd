package probe

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"harouter/test/netlab"
)

// packetOf is an IPv4 packet with a TCP segment to 203.0.113.10.
func packetOf(from string, port uint16, flags byte, seq, ack uint32, options, data int) []byte {
	b := make([]byte, 20+20+options+data)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], netip.MustParseAddr(from).AsSlice())
	copy(b[16:], netip.MustParseAddr(own).AsSlice())
	binary.BigEndian.PutUint16(b[20:], port)
	binary.BigEndian.PutUint32(b[24:], seq)
	binary.BigEndian.PutUint32(b[28:], ack)
	b[32], b[33] = byte(20+options)/4<<4, flags
	return b
}

const flagACK = 0x10

// TestWitnessSees: what a line that works, and one that does not, look like.
func TestWitnessSees(t *testing.T) {
	const server = "198.51.100.1"
	type round [][]byte
	data := func(port uint16, seq uint32) []byte { return packetOf(server, port, flagACK, seq, 1, 12, 100) }
	pure := func(port uint16, ack uint32) []byte { return packetOf(server, port, flagACK, 1, ack, 12, 0) }
	for _, c := range []struct {
		name   string
		rounds []round
		want   string // y: it carries traffic
	}{
		{"silence", []round{{}, {}}, "nn"},
		{"an upload", []round{{pure(80, 1000), pure(80, 2000)}, {pure(80, 3000)}, {}}, "yyn"},
		{"acknowledged again and again", []round{{pure(80, 9)}, {pure(80, 9)}, {pure(80, 9), pure(80, 8)}}, "nnn"},
		{"a download", []round{{data(80, 100), data(80, 200)}, {data(80, 300)}, {data(80, 400)}}, "nyy"},
		{"a last window, then the same again", []round{{data(80, 100), data(80, 200), data(80, 300)}, {data(80, 100)}, {data(80, 200)}}, "nnn"},
		{"each connection once", []round{{data(80, 1)}, {data(81, 1)}, {data(82, 1)}}, "nnn"},
		{"numbers wrap around", []round{{pure(80, 1<<32-5)}, {pure(80, 5)}, {pure(80, 1<<32-2)}}, "nyn"},
		{"garbage", []round{{nil, {0x45}, make([]byte, 64), pure(80, 1)[:30], packetOf(server, 1, 0, 0, 0, 0, 0)[:39]}}, "n"},
	} {
		w := &witness{flows: map[flow]*progress{}}
		got := ""
		for _, r := range c.rounds {
			w.batch++
			saw := false
			for _, b := range r {
				saw = w.look(b) || saw
			}
			got += map[bool]string{true: "y", false: "n"}[saw]
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	w := &witness{flows: map[flow]*progress{}}
	for port := range uint16(2 * mostFlows) {
		w.look(data(port, 1))
	}
	if n := len(w.flows); n > mostFlows {
		t.Errorf("%d flows are remembered", n)
	}
}

func FuzzReadSegment(f *testing.F) {
	f.Add(packetOf("198.51.100.1", 80, flagACK, 1, 2, 12, 7))
	f.Add([]byte{0x45})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := readSegment(b); ok {
			w := &witness{flows: map[flow]*progress{}}
			first, again := w.look(b), w.look(b)
			if first || again || w.flows[s.flow] == nil {
				t.Errorf("%x alone proves something", b)
			}
		}
	})
}

func TestWitnessFilter(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "ip link add wan1 type veth peer name isp; ip link set wan1 up; ip link set isp up")
	const server = "198.51.100.1"
	plain := func(flags byte) []byte { return packetOf(server, 80, flags, 1, 1, 12, 10) }
	changed := func(at int, to byte) []byte {
		b := plain(flagACK)
		b[at] = to
		return b
	}
	dev, err := lookDevice("wan1")
	if err != nil {
		t.Fatal(err)
	}
	peer, err := lookDevice("isp")
	if err != nil {
		t.Fatal(err)
	}
	var seq uint32
	at := time.Now()
	tick := func() time.Time { at = at.Add(2 * credit); return at }
	send := func(d device, b []byte) {
		t.Helper()
		c, err := packet.Listen(&net.Interface{Index: d.index()}, packet.Raw, unix.ETH_P_IP, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		seq += 1000
		binary.BigEndian.PutUint32(b[28:], seq) // progress, if it is seen
		frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 0x08, 0}, b...)
		if _, err := c.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}); err != nil {
			t.Fatal(err)
		}
	}
	w, err := openWitness(dev, netip.MustParseAddr(gateway))
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	seen := func() bool {
		for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if w.saw(tick()) {
				return true
			}
		}
		return false
	}
	send(peer, plain(flagACK)) // now it knows the flow
	seen()
	for _, c := range []struct {
		name   string
		packet []byte
		want   bool
	}{
		{"a segment", plain(flagACK), true},
		{"pushed, with a farewell", plain(flagACK | 0x09), true},
		{"from the gateway", packetOf(gateway, 80, flagACK, 1, 1, 12, 10), false},
		{"first answer", plain(flagACK | 0x02), false},
		{"reset", plain(flagACK | 0x04), false},
		{"a fragment", changed(7, 5), false},
		{"UDP", changed(9, unix.IPPROTO_UDP), false},
		{"a segment again", plain(flagACK), true},
	} {
		if !c.want && c.name == "from the gateway" {
			send(peer, packetOf(gateway, 80, flagACK, 1, 1, 12, 10))
		}
		send(peer, c.packet)
		if c.want {
			if !seen() {
				t.Errorf("%s: not seen", c.name)
			}
			continue
		}
		time.Sleep(2 * time.Millisecond)
		if w.saw(tick()) {
			t.Errorf("%s: seen", c.name)
		}
	}
	send(dev, plain(flagACK))
	time.Sleep(2 * time.Millisecond)
	if w.saw(tick()) {
		t.Error("what goes out was taken for what comes in")
	}
	send(peer, plain(flagACK))
	if !seen() || !w.saw(at.Add(credit-1)) || w.saw(at.Add(credit)) {
		t.Errorf("progress does not count for %v", credit)
	}
}
