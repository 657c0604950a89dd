package kernel

import (
	"context"
	"errors"
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
			f.ID, f.Timeout, f.TCP.OriginalFlags, f.TCP.ReplyFlags = 0, 0, 0, 0
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

func TestInstall(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, natHook+`
		nft 'table inet t { chain out { type filter hook output priority 0; ct label set 3; }; }'`) // labels are in use
	ctx, inject := context.Background(), injector(t)
	all := func() (flows []ct.Flow) {
		err := Dump(ctx, Filter{}, func() { flows = nil }, func(f *ct.Flow) { flows = append(flows, *f) })
		if err != nil {
			t.Fatal(err)
		}
		return flows
	}
	// only checks that the table holds that flow alone.
	only := func(what string, want ct.Flow) {
		t.Helper()
		flows := all()
		for i := range flows {
			if flows[i].ID == 0 {
				t.Errorf("%s has no number", what)
			}
			flows[i].ID = 0
			flows[i].TCP.OriginalFlags &^= tcpLiberal
			flows[i].TCP.ReplyFlags &^= tcpLiberal
			flows[i].Status &= settable | ct.SourceNAT | ct.DestNAT
			if d := int(want.Timeout) - int(flows[i].Timeout); d >= 0 && d <= 2 {
				flows[i].Timeout = want.Timeout
			}
		}
		if diff := cmp.Diff([]ct.Flow{want}, flows, equalAddr); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	a, b := netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("198.51.100.1")
	a6, b6, nat6 := netip.MustParseAddr("fd00::9"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::10")
	flow := func(to ct.Tuple) ct.Flow { return ct.Flow{Original: to, Reply: to.Inverse(), Timeout: 600} }
	nat := netip.MustParseAddr("203.0.113.10")
	full := made(1)[0]
	full.Status |= ct.SourceNAT
	icmp := flow(ct.Tuple{Source: a, Destination: b, Protocol: ct.ICMP, ID: 77, Type: 8})
	icmp.Reply.Destination, icmp.Reply.ID, icmp.Status = nat, 99, ct.SeenReply|ct.SourceNAT
	sctp := flow(ct.Tuple{Source: a, Destination: b, Protocol: ct.SCTP, SourcePort: 5, DestinationPort: 6})
	sctp.SCTP = ct.SCTPInfo{State: 4, OriginalTag: 1 << 31, ReplyTag: 9}
	sctp.Zone = 7
	gre := flow(ct.Tuple{Source: a, Destination: b, Protocol: ct.GRE, SourcePort: 5, DestinationPort: 6})
	udp6 := flow(ct.Tuple{Source: a6, Destination: b6, Protocol: ct.UDP, SourcePort: 5, DestinationPort: 6})
	udp6.Reply.Destination, udp6.Reply.DestinationPort = nat6, 2000
	udp6.Status, udp6.Labels = ct.SeenReply|ct.Assured|ct.SourceNAT, ct.Labels{8, 15: 1}
	both := full
	both.Original.Destination, both.Original.DestinationPort = nat, 8080
	both.Status |= ct.DestNAT
	half := flow(ct.Tuple{Source: a, Destination: b, Protocol: ct.TCP, SourcePort: 5, DestinationPort: 6})
	half.TCP.State = ct.SYNSent
	icmp6 := flow(ct.Tuple{Source: a6, Destination: b6, Protocol: ct.ICMPv6, ID: 77, Type: 128})
	icmp6NAT := icmp6
	icmp6NAT.Reply.Destination, icmp6NAT.Reply.ID, icmp6NAT.Status = nat6, 99, ct.SeenReply|ct.SourceNAT
	tcp6 := flow(ct.Tuple{Source: a6, Destination: b6, Protocol: ct.TCP, SourcePort: 5, DestinationPort: 21})
	tcp6.Reply.Destination, tcp6.Reply.DestinationPort = nat6, 2000
	tcp6.Status, tcp6.Labels, tcp6.Zone, tcp6.Helper = ct.SeenReply|ct.Assured|ct.SourceNAT, ct.Labels{8, 15: 1}, 7, "ftp"
	tcp6.TCP.State, tcp6.Adjust = ct.Established, [2]ct.Adjustment{{Position: 1 << 31, Before: 3, After: 4}, {Position: 7, After: 1<<32 - 2}}
	for name, f := range map[string]ct.Flow{"tcp": full, "icmpv6 through nat": icmp6NAT, "tcp6 in a zone, with all": tcp6, "icmp": icmp, "icmpv6": icmp6, "sctp in a zone": sctp, "gre": gre, "udp6": udp6, "both translated": both, "half open": half} {
		must(t)(inject.Install(ctx, []ct.Flow{f}))
		only(name, f)
		f.Mark, f.Timeout = 0x3300, 300
		must(t)(inject.Install(ctx, []ct.Flow{f})) // it is there: changed
		only(name+" again", f)
		f.Status, f.Timeout = f.Status|ct.SeenReply|ct.Assured, 200
		must(t)(inject.Update(ctx, []ct.Flow{f}))
		only(name+" updated", f)
		less := f
		less.Status, less.Mark = 0, 0x100 // the kernel knows better, and takes the rest
		must(t)(inject.Update(ctx, []ct.Flow{less}))
		f.Mark = 0x100
		only(name+" with less", f)
		f.Timeout = 900
		must(t)(inject.SetTimeouts(ctx, []ct.Flow{f}))
		only(name+" with time", f)
		must(t)(inject.Delete(ctx, []ct.Flow{f, f}))
		if flows := all(); len(flows) != 0 {
			t.Fatalf("%s: %+v", name, flows)
		}
		must(t)(inject.SetTimeouts(ctx, []ct.Flow{f}))
		must(t)(inject.Update(ctx, []ct.Flow{f})) // it is not there: installed
		only(name+" updated anew", f)
		must(t)(inject.Delete(ctx, []ct.Flow{f}))
	}

	// One that is there, translated in another way, and one that waits for the
	// same answers, give way.
	must(t)(inject.Install(ctx, []ct.Flow{full}))
	moved := full
	moved.Reply.DestinationPort = 7777
	must(t)(inject.Install(ctx, []ct.Flow{moved}))
	only("translated anew", moved)
	// What is said of the one that was there does not concern its successor.
	full.Mark, full.Timeout = 0x300, 40
	must(t)(inject.Update(ctx, []ct.Flow{full}))
	only("another one updated", moved)
	must(t)(inject.SetTimeouts(ctx, []ct.Flow{full}))
	only("another one given a time", moved)
	must(t)(inject.Delete(ctx, []ct.Flow{full}))
	only("another one deleted", moved)
	rival := moved
	rival.Original.SourcePort = 1
	must(t)(inject.Install(ctx, []ct.Flow{rival}))
	only("the same answers", rival)
	taken := func(refused []Refused, err error) {
		t.Helper()
		if err != nil || len(refused) != 1 || !errors.Is(refused[0].Err, ErrTaken) {
			t.Errorf("refused %v, %v; want one, since it is taken", refused, err)
		}
	}
	// Not for one that is over, nor for news of one that is not there.
	dead := moved
	dead.TCP.State = ct.Closed
	taken(inject.Install(ctx, []ct.Flow{dead}))
	only("the one that lives", rival)
	// What is led inside keeps its port, where the last one from there is over.
	must(t)(inject.Delete(ctx, all()))
	dead = flow(ct.Tuple{Source: b, Destination: nat, Protocol: ct.TCP, SourcePort: 5, DestinationPort: 8443})
	dead.Reply.Source, dead.Reply.SourcePort = a, 443
	dead.Status, dead.TCP.State = ct.SeenReply|ct.Assured|ct.DestNAT, ct.Closed
	inward := dead
	inward.Original.Destination, inward.TCP.State = netip.MustParseAddr("203.0.113.140"), ct.Established
	var h heard
	told := listen(t, 1<<20, inject.Port(), &h) // before: else the kernel may not tell its end
	must(t)(inject.Install(ctx, []ct.Flow{dead}))
	must(t)(inject.Install(ctx, []ct.Flow{inward}))
	only("led inside by another line", inward)
	told()
	if len(h.events) != 1 || h.events[0].Kind != ct.Ended || h.events[0].Flow.Original != dead.Original {
		t.Errorf("heard %+v, want the end of the one that gave way", h.events)
	}
	// What is said of that one does not concern its successor.
	dead.Mark, dead.Timeout = 0x100, 5
	taken(inject.Update(ctx, []ct.Flow{dead}))
	taken(inject.Install(ctx, []ct.Flow{dead}))
	must(t)(inject.SetTimeouts(ctx, []ct.Flow{dead}))
	must(t)(inject.Delete(ctx, []ct.Flow{dead}))
	only("led inside by another line, and the end of the other one", inward)
	must(t)(inject.Delete(ctx, []ct.Flow{inward}))
	// A helper that is not there, a master that is gone.
	rival.Original.SourcePort, rival.Reply.DestinationPort = 2, 2222
	must(t)(inject.Delete(ctx, all()))
	child := rival
	child.Helper, child.Master = "strange", ct.Tuple{Source: a, Destination: b, Protocol: ct.TCP, SourcePort: 1, DestinationPort: 21}
	must(t)(inject.Install(ctx, []ct.Flow{child}))
	only("without helper and master", rival)
	must(t)(inject.Delete(ctx, all()))

	// What the kernel refuses is told, the rest is done.
	many := made(300)
	many[200].Original.Source = netip.MustParseAddr("fd00::1")
	refused, err := inject.Install(ctx, many[:200])
	must(t)(refused, err)
	if refused, err = inject.Install(ctx, many); err == nil && len(refused) == 0 {
		t.Error("a flow of two families was taken")
	}
	// The filter of a dump.
	n := 0
	err = Dump(ctx, Filter{Mark: 0x100, MarkMask: mask, Status: ct.Assured, StatusMask: ct.Assured}, func() { n = 0 }, func(*ct.Flow) { n++ })
	if err != nil || n < 200 {
		t.Errorf("%d, %v", n, err)
	}
	for _, f := range []Filter{{Mark: 0x200, MarkMask: mask}, {Status: 0, StatusMask: ct.Assured}} {
		if err := Dump(ctx, f, func() {}, func(f *ct.Flow) { t.Errorf("%+v", f) }); err != nil {
			t.Error(err)
		}
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := inject.Install(over, many); err != context.Canceled {
		t.Errorf("ctx ended: %v", err)
	}
}

func TestReadTimeouts(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, `nft 'table inet t { chain in { type filter hook input priority 0; ct state new; }; }'
		cd /proc/sys/net/netfilter; echo 77 >nf_conntrack_tcp_timeout_established; echo 88 >nf_conntrack_udp_timeout_stream
		echo 99 >nf_conntrack_sctp_timeout_established`)
	got, err := ReadTimeouts()
	want := ct.DefaultTimeouts()
	want.TCP[ct.Established], want.UDPStream, want.SCTP[4] = 77*time.Second, 88*time.Second, 99*time.Second
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
