package kernel

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	ct "harouter/conntracksync"
	"harouter/test/netlab"
)

// inside runs f on a thread in a network namespace; the thread ends with it.
func inside(t *testing.T, name string, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		ns, err := os.Open("/run/netns/" + name)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("in %s: %v", name, err)
	}
}

// twoRouters are a client, a server, and between them two routers with the same
// addresses, of which only the first is plugged in. Both translate, and drop
// what belongs to no connection as a careful admin has it.
const twoRouters = `
	mount --make-rprivate /; mkdir -p /run/netns; mount -t tmpfs none /run/netns
	for n in client server r1 r2; do ip netns add $n; ip -n $n link set lo up; done
	for n in client server; do
		ip -n $n link add lan0 type bridge; ip -n $n link set lan0 up
		for r in r1 r2; do
			ip -n $n link add $r type veth peer name $n netns $r
			ip -n $n link set $r master lan0; ip -n $n link set $r up
		done
	done
	ip -n client addr add 192.168.77.9/24 dev lan0; ip -n client addr add fd00:77::9/64 dev lan0 nodad
	ip -n server addr add 198.51.100.1/24 dev lan0; ip -n server addr add fd00:98::1/64 dev lan0 nodad
	ip -n client route add default via 192.168.77.1; ip -n client route add default via fd00:77::1
	for r in r1 r2; do
		ip netns exec $r sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.accept_dad=0 \
			net.ipv6.conf.default.accept_dad=0 net.netfilter.nf_conntrack_tcp_loose=0
		ip netns exec $r nft -f - <<-E
			table inet t {
				chain before { type nat hook prerouting priority -100
					ip daddr 198.51.100.10 tcp dport 8080 dnat ip to 192.168.77.9:80
				}
				chain after { type nat hook postrouting priority 100
					oifname server ip saddr 192.168.77.0/24 ip protocol { tcp, udp } snat ip to 198.51.100.10:20000-20100
					oifname server ip saddr 192.168.77.0/24 snat ip to 198.51.100.10
					oifname server ip6 saddr fd00:77::/64 meta l4proto { tcp, udp } snat ip6 to [fd00:98::10]:20000-20100
				}
				chain marks { type filter hook forward priority -10
					ct state new ct mark set 0x100
				}
				chain in { type filter hook input priority 0
					meta l4proto { tcp, udp } drop # else the router answers with a reset what it does not know
				}
				chain filter_all { type filter hook forward priority 0
					ct state invalid drop
				}
			}
			E
	done
	ip netns exec r2 nft add rule inet t filter_all ct state new drop`

// plug gives a router the addresses and the cables.
func plug(t *testing.T, router, other string) {
	t.Helper()
	netlab.Sh(t, `o=`+other+` r=`+router+`
		ip -n $o link set client down; ip -n $o link set server down
		ip -n $r link set client up; ip -n $r link set server up
		ip -n $r addr replace 192.168.77.1/24 dev client; ip -n $r addr replace fd00:77::1/64 dev client nodad
		for a in 198.51.100.2/24 198.51.100.10/24; do ip -n $r addr replace $a dev server; done
		for a in fd00:98::2/64 fd00:98::10/64; do ip -n $r addr replace $a dev server nodad; done
		for n in client server; do ip -n $n neigh flush all; ip -n $n -6 neigh flush all; done`)
}

// say sends a word over a connection and expects it back.
func say(conn, answerer io.ReadWriter, word string) error {
	type deadliner interface{ SetDeadline(time.Time) error }
	for _, c := range []io.ReadWriter{conn, answerer} {
		if err := c.(deadliner).SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
			return err
		}
	}
	for _, way := range [][2]io.ReadWriter{{conn, answerer}, {answerer, conn}} {
		if _, err := way[0].Write([]byte(word)); err != nil {
			return err
		}
		buf := make([]byte, len(word))
		if _, err := io.ReadFull(way[1], buf); err != nil {
			return fmt.Errorf("%q did not arrive: %w", word, err)
		}
		if string(buf) != word {
			return fmt.Errorf("%q arrived as %q", word, buf)
		}
	}
	return nil
}

// answer is a UDP socket that speaks to who spoke last.
type answer struct {
	*net.UDPConn
	to netip.AddrPort
}

func (a *answer) Read(b []byte) (n int, err error) {
	n, a.to, err = a.ReadFromUDPAddrPort(b)
	return n, err
}

func (a *answer) Write(b []byte) (int, error) { return a.WriteToUDPAddrPort(b, a.to) }

type talk struct {
	name    string
	conn    io.ReadWriter
	answers io.ReadWriter
}

// talks opens a connection of each kind through the router, with more that is
// to arrive at the other end.
func talks(t *testing.T) (all []talk) {
	t.Helper()
	for _, c := range []struct{ name, at, listen, from, to string }{
		{"tcp", "server", "198.51.100.1:7", "client", "198.51.100.1:7"},
		{"tcp6", "server", "[fd00:98::1]:7", "client", "[fd00:98::1]:7"},
		{"tcp to a forwarded port", "client", "192.168.77.9:80", "server", "198.51.100.10:8080"},
	} {
		var l net.Listener
		inside(t, c.at, func() (err error) { l, err = net.Listen("tcp", c.listen); return err })
		defer l.Close()
		var conn, other net.Conn
		inside(t, c.from, func() (err error) { conn, err = net.DialTimeout("tcp", c.to, 3*time.Second); return err })
		other, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(); other.Close() })
		all = append(all, talk{c.name, conn, other})
	}
	for _, c := range []struct{ name, to string }{{"udp", "198.51.100.1:8"}, {"udp6", "[fd00:98::1]:8"}} {
		var at *net.UDPConn
		var conn net.Conn
		inside(t, "server", func() (err error) {
			at, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(c.to)))
			return err
		})
		inside(t, "client", func() (err error) { conn, err = net.Dial("udp", c.to); return err })
		t.Cleanup(func() { conn.Close(); at.Close() })
		all = append(all, talk{c.name, conn, &answer{UDPConn: at}})
	}
	return all
}

// table is the table of a router.
func table(t *testing.T, router string) (flows []ct.Flow) {
	t.Helper()
	inside(t, router, func() error {
		return Dump(context.Background(), Filter{Mark: 0x100, MarkMask: mask}, func() { flows = nil },
			func(f *ct.Flow) { flows = append(flows, *f) })
	})
	return flows
}

// install puts flows into the table of a router.
func install(t *testing.T, router string, flows []ct.Flow) {
	t.Helper()
	inside(t, router, func() error {
		i, err := NewInjector()
		if err != nil {
			return err
		}
		defer i.Close()
		refused, err := i.Install(context.Background(), flows)
		for _, r := range refused {
			t.Error(r.Err)
		}
		return err
	})
}

// TestTakeover is the proof that matters: connections that were made through
// one router go on through another one that was only told of them, which drops
// everything that it was not told of.
func TestTakeover(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, twoRouters)
	plug(t, "r1", "r2")
	all := talks(t)
	for _, c := range all {
		for _, word := range []string{"one", "two"} {
			if err := say(c.conn, c.answers, word); err != nil {
				t.Fatalf("%s before the takeover: %v", c.name, err)
			}
		}
	}
	flows := table(t, "r1")
	translated := 0
	for _, f := range flows {
		if f.Reply != f.Original.Inverse() {
			translated++
		}
		if f.Original.Protocol == ct.TCP && f.TCP.State != ct.Established || f.Timeout == 0 || f.Status&ct.Assured == 0 && f.Original.Protocol == ct.TCP {
			t.Errorf("%+v", f)
		}
	}
	if len(flows) != len(all) || translated != len(all) {
		t.Fatalf("%d flows, %d translated, want %d: %+v", len(flows), translated, len(all), flows)
	}

	plug(t, "r2", "r1")
	// The control: without the flows nothing passes. UDP says so at once; TCP
	// would repeat what was lost.
	udp := all[3]
	if _, err := udp.conn.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	if err := udp.answers.(*answer).SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := udp.answers.Read(make([]byte, 9)); err == nil {
		t.Fatalf("%d bytes passed a router that knew of no connection", n)
	}

	install(t, "r2", flows)
	for _, c := range all {
		for _, word := range []string{"three", strings.Repeat("long", 2000)} {
			if strings.HasPrefix(c.name, "udp") {
				word = word[:min(len(word), 1000)]
			}
			if err := say(c.conn, c.answers, word); err != nil {
				t.Errorf("%s after the takeover: %v", c.name, err)
			}
		}
	}
	if udp, ok := all[3].answers.(*answer); ok && udp.to.Port() < 20000 {
		t.Errorf("the server sees %v", udp.to)
	}

	// What the second router tells is what the first one told, the flags of the
	// window aside: those can be told again, back to the first.
	back := table(t, "r2")
	plain := func(flows []ct.Flow) map[ct.Tuple]ct.Flow {
		byName := map[ct.Tuple]ct.Flow{}
		for _, f := range flows {
			f.Timeout, f.TCP.OriginalFlags, f.TCP.ReplyFlags = 0, 0, 0
			f.Status &^= ct.Assured // a flow of udp becomes that with its next packets
			byName[f.Original] = f
		}
		return byName
	}
	if diff := cmp.Diff(plain(flows), plain(back), equalAddr); diff != "" {
		t.Errorf("flows on the second router (-first +second):\n%s", diff)
	}
	for _, f := range back {
		if f.Original.Protocol == ct.TCP && (f.TCP.OriginalFlags&tcpLiberal == 0 || f.TCP.ReplyFlags&tcpLiberal == 0) {
			t.Errorf("not liberal: %+v", f)
		}
	}
	install(t, "r1", back)
	plug(t, "r1", "r2")
	for _, c := range all {
		if err := say(c.conn, c.answers, "back again"); err != nil {
			t.Errorf("%s after the failback: %v", c.name, err)
		}
	}
}
