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

// segment is an Ethernet frame with a TCP segment to 203.0.113.10.
func segment(from string, flags byte, options, data int, change func([]byte)) []byte {
	b := make([]byte, 14+20+20+options+data)
	for i := range 6 {
		b[i] = 0xff
	}
	b[12] = 0x08
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], netip.MustParseAddr(from).AsSlice())
	copy(ip[16:], netip.MustParseAddr(own).AsSlice())
	ip[20+12], ip[20+13] = byte(20+options)/4<<4, flags
	if change != nil {
		change(ip)
	}
	return b
}

func TestWitnessCountsOnlyAcknowledgements(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "ip link add wan1 type veth peer name isp; ip link set wan1 up; ip link set isp up")
	const server, ack = "198.51.100.1", 0x10
	cases := []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"acknowledgement", segment(server, ack, 0, 0, nil), true},
		{"with options", segment(server, ack, 12, 0, nil), true},
		{"pushed", segment(server, ack|0x08, 0, 0, nil), true},
		{"padded on the wire", append(segment(server, ack, 0, 0, nil), 0, 0, 0, 0, 0, 0), true},
		{"data", segment(server, ack, 12, 1, nil), false},
		{"from the gateway", segment(gateway, ack, 0, 0, nil), false},
		{"first answer", segment(server, ack|0x02, 0, 0, nil), false},
		{"reset", segment(server, ack|0x04, 0, 0, nil), false},
		{"farewell", segment(server, ack|0x01, 0, 0, nil), false},
		{"a fragment", segment(server, ack, 0, 0, func(ip []byte) { ip[7] = 5 }), false},
		{"UDP", segment(server, ack, 0, 0, func(ip []byte) { ip[9] = unix.IPPROTO_UDP }), false},
		{"cut off", segment(server, ack, 0, 0, nil)[:14+30], false},
	}
	dev, err := lookDevice("wan1")
	if err != nil {
		t.Fatal(err)
	}
	peer, err := lookDevice("isp")
	if err != nil {
		t.Fatal(err)
	}
	send := func(d device, frame []byte) {
		t.Helper()
		c, err := packet.Listen(&net.Interface{Index: d.index()}, packet.Raw, unix.ETH_P_IP, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}); err != nil {
			t.Fatal(err)
		}
	}
	w, err := openWitness(dev, netip.MustParseAddr(gateway), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	counted := func() uint64 {
		w.saw(time.Now(), time.Second)
		return w.seen[len(w.seen)-1].n
	}
	before := counted()
	for _, c := range cases {
		send(peer, c.frame)
		want := before
		if c.want {
			want++
		}
		got := counted()
		for end := time.Now().Add(time.Second); got < want && time.Now().Before(end); got = counted() {
			time.Sleep(time.Millisecond)
		}
		if got != want {
			t.Errorf("%s: %d counted, want %d", c.name, got-before, want-before)
		}
		before = got
	}
	send(dev, cases[0].frame) // outgoing
	send(peer, cases[0].frame)
	for end := time.Now().Add(time.Second); counted() == before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := counted(); n != before+1 {
		t.Errorf("%d of one that came in and one that went out", n-before)
	}
}

func TestEnough(t *testing.T) {
	at := time.Now()
	for _, c := range []struct {
		name  string
		every time.Duration
		seen  []uint64
		want  bool
	}{
		{"nothing", 200 * time.Millisecond, []uint64{0, 0, 0}, false},
		{"one is none", 200 * time.Millisecond, []uint64{0, 1}, false},
		{"a slow upload", 200 * time.Millisecond, []uint64{0, 2, 4}, true},
		{"keepalives", 200 * time.Millisecond, []uint64{0, 0, 1, 1, 2, 2}, false},
		{"it ended", 200 * time.Millisecond, []uint64{0, 90, 180, 180, 180, 180, 180, 180}, false},
		{"metered, five a second", 10 * time.Second, []uint64{0, 50}, true},
		{"metered, few", 10 * time.Second, []uint64{0, 20}, false},
	} {
		var seen []count
		got := false
		for i, n := range c.seen {
			seen = append(seen, count{at.Add(time.Duration(i) * c.every), n})
			if i > 0 {
				got = enough(&seen, max(witnessFor, c.every+c.every/2))
			}
		}
		if got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
