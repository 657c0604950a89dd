package integration

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"harouter/conntracksync"
	"harouter/conntracksync/kernel"
	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

func init() {
	netlab.Role("roughflows", roughFlows)
	netlab.Role("roughcaller", roughCaller)
	netlab.Role("roughecho", roughEcho)
	netlab.Role("roughqueries", roughQueries)
}

const (
	roughPort  = 4444 // the destination of connections that are entries only
	roughShort = 4445 // the same of those that end at once
	roughDNS   = 5353
)

// roughFlow is the connection of that number.
func roughFlow(n int) conntracksync.Flow {
	o := conntracksync.Tuple{
		Source: netip.AddrFrom4([4]byte{192, 168, 77, byte(100 + n/50000)}), Destination: site.Server,
		Protocol: conntracksync.TCP, SourcePort: uint16(10000 + n%50000), DestinationPort: roughPort,
	}
	return conntracksync.Flow{
		Original: o, Reply: o.Inverse(), Timeout: 7200,
		Status: conntracksync.SeenReply | conntracksync.Assured | conntracksync.Confirmed,
		TCP:    conntracksync.TCPInfo{State: conntracksync.Established},
	}
}

// roughFlows puts connections into a node's table as packets would, from number
// args[1] to before args[2]: "open" established ones, "again" each of them ten
// times, "short" queries that are gone again at once.
func roughFlows(ctx context.Context, args []string) error {
	from, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	to, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	i, err := kernel.NewInjector()
	if err != nil {
		return err
	}
	defer i.Close()
	install := func(flows []conntracksync.Flow) error {
		refused, err := i.Install(ctx, flows)
		if err == nil && len(refused) > 0 {
			err = fmt.Errorf("%d of %d flows were refused: %w", len(refused), len(flows), refused[0].Err)
		}
		return err
	}
	var flows []conntracksync.Flow
	for n := from; n < to; n++ {
		f := roughFlow(n)
		if args[0] == "short" {
			f.Original.Protocol, f.Original.DestinationPort = conntracksync.UDP, roughShort
			f.Reply, f.Status, f.TCP, f.Timeout = f.Original.Inverse(), conntracksync.Confirmed, conntracksync.TCPInfo{}, 30
		}
		flows = append(flows, f)
	}
	if args[0] == "short" {
		for part := range slices.Chunk(flows, 500) {
			if err := install(part); err != nil {
				return err
			}
			if _, err := i.Delete(ctx, part); err != nil {
				return err
			}
		}
		return nil
	}
	times := 1
	if args[0] == "again" {
		times = 10
	}
	for range times {
		if err := install(flows); err != nil {
			return err
		}
	}
	return nil
}

// roughCaller makes 300 connections to a port that say nothing, garbage, half of
// a TLS handshake, or a byte now and then, and holds them until it is ended.
func roughCaller(ctx context.Context, args []string) error {
	hello := []byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3} // a handshake's first bytes
	slow := func(conn net.Conn) {
		for _, b := range append(slices.Clone(hello), make([]byte, 500)...) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	for i := range 300 {
		conn, err := net.DialTimeout("tcp", args[0], time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		switch i % 4 {
		case 1:
			junk := make([]byte, 3000)
			rand.Read(junk)
			_, _ = conn.Write(junk)
		case 2:
			_, _ = conn.Write(hello)
		case 3:
			go slow(conn)
		}
		time.Sleep(5 * time.Millisecond)
	}
	<-ctx.Done()
	return nil
}

// roughEcho answers datagrams.
func roughEcho(ctx context.Context, args []string) error {
	conn, err := net.ListenPacket("udp", args[0])
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	b := make([]byte, 2000)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return nil
		}
		_, _ = conn.WriteTo(b[:n], from)
	}
}

// roughQueries sends args[2] datagrams from args[0] to args[1], each from a port
// of its own, 5,000 a second.
func roughQueries(_ context.Context, args []string) error {
	src, dst := netip.MustParseAddr(args[0]), netip.MustParseAddrPort(args[1])
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const payload = 40
	b := make([]byte, 28+payload)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[22:], dst.Port())
	binary.BigEndian.PutUint16(b[24:], 8+payload)
	began := time.Now()
	for i := range count {
		binary.BigEndian.PutUint16(b[20:], uint16(20000+i))
		if err := unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: dst.Addr().As4()}); err != nil {
			return err
		}
		if d := time.Duration(i)*time.Second/5000 - time.Since(began); d > time.Millisecond {
			time.Sleep(d)
		}
	}
	return nil
}

// plays runs a role on a node to its end.
func plays(t *testing.T, c *site.Cluster, node, role string, args ...string) {
	t.Helper()
	p, err := c.Node(node).StartRole(role, role, args...)
	must(t, err)
	if code, err := p.Wait(20 * time.Second); err != nil || code != 0 {
		text, _ := os.ReadFile(p.Log)
		t.Fatalf("%s on %s: exit code %d, %v\n%s", role, node, code, err, text)
	}
}

// entries opens connections on a router, from that number to before this one.
func entries(t *testing.T, c *site.Cluster, router string, from, to int) {
	t.Helper()
	plays(t, c, router, "roughflows", "open", strconv.Itoa(from), strconv.Itoa(to))
}

// agree waits until all routers are in sync and have so many of these entries.
func agree(t *testing.T, c *site.Cluster, want int, routers ...string) {
	t.Helper()
	began := netlab.Now()
	got := map[string]int{}
	err := netlab.WaitFor("the tables agree", 10*time.Second, func() bool {
		for _, r := range routers {
			all, err := c.Router(r).Connections(0, 0)
			must(t, err)
			got[r] = 0
			for _, f := range all {
				if f.Dst.Port() == roughPort {
					got[r]++
				}
			}
			if got[r] != want {
				time.Sleep(20 * time.Millisecond) // listing costs
				return false
			}
		}
		return true
	})
	if err != nil {
		t.Fatalf("%v: %v, want %d each", err, got, want)
	}
	t.Logf("%d agree after %v", want, netlab.Now().Sub(began).Round(time.Millisecond))
	inSync(t, c, routers...)
}

// memory is what a router's daemon holds, in MiB.
func memory(t *testing.T, c *site.Cluster, router string) int64 {
	t.Helper()
	_, resident, err := netlab.Usage(c.Daemons[router].PID)
	must(t, err)
	return resident >> 20
}

// syncing tells whether the first peer is in one of these states.
func syncing(want ...ha.SyncState) func(ha.Status) bool {
	return func(s ha.Status) bool { return slices.Contains(want, s.ConntrackSync.Peers[0].State) }
}

// counters that nft keeps in a router of what it sends to the sync port.
const roughCounter = `table inet rough { chain sent { type filter hook output priority -300; ip daddr 192.0.2.2 tcp dport 7947 counter; }; }`

func sentBytes(t *testing.T, c *site.Cluster) int {
	t.Helper()
	out, err := c.Router("r1").Exec("nft", "list", "table", "inet", "rough")
	must(t, err)
	m := regexp.MustCompile(`bytes (\d+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no counter in %s", out)
	}
	n, err := strconv.Atoi(m[1])
	must(t, err)
	return n
}

// watchEnds tells, when asked, how many of the entries ended on a router since.
func watchEnds(t *testing.T, c *site.Cluster, router string) func() int {
	t.Helper()
	p, err := c.Router(router).Start("ends", "conntrack", "-E", "-b", "16777216", "-e", "DESTROY", "-p", "tcp", "--dport", strconv.Itoa(roughPort))
	must(t, err)
	return func() int {
		text, err := os.ReadFile(p.Log)
		must(t, err)
		return strings.Count(string(text), "[DESTROY]")
	}
}

// TestRoughSessions: one thing after the other happens to the sessions and to
// those who hold them. The flows go on, the role stays where it is, and the
// tables agree afterwards.
func TestRoughSessions(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	client, err := c.Load("h1", manyFlows())
	must(t, err)
	entries(t, c, "r1", 0, 20000)
	agree(t, c, 20000, "r1", "r2")
	transitions := func() (n [2]uint64) {
		for i, r := range []string{"r1", "r2"} {
			s, err := c.Status(r)
			must(t, err)
			n[i] = s.VRRP.Transitions
		}
		return n
	}
	began, before := transitions(), memory(t, c, "r1")
	ends := map[string]func() int{"r1": watchEnds(t, c, "r1"), "r2": watchEnds(t, c, "r2")}
	have := 20000
	more := func(router string, n int) {
		t.Helper()
		entries(t, c, router, have, have+n)
		have += n
	}

	t.Run("strangers", func(t *testing.T) {
		var callers []*netlab.Process
		for _, n := range []string{"h1", "r2"} { // also from the address of a node
			p, err := c.Node(n).StartRole("caller", "roughcaller", "192.0.2.1:7947")
			must(t, err)
			callers = append(callers, p)
		}
		time.Sleep(time.Second)
		more("r1", 1000)
		agree(t, c, have, "r1", "r2")
		time.Sleep(1500 * time.Millisecond) // the slow ones are out of time
		s, err := c.Status("r1")
		must(t, err)
		for _, reason := range []string{"connections", "tls", "timeout"} {
			if s.Drops.Sync[reason] == 0 {
				t.Errorf("no drop for %s was counted: %v", reason, s.Drops.Sync)
			}
		}
		for _, p := range callers {
			must(t, p.Kill())
		}
		t.Logf("counted: %v", s.Drops.Sync)
	})
	t.Run("a peer that stands still", func(t *testing.T) {
		must(t, c.Daemons["r2"].Signal(syscall.SIGSTOP))
		more("r1", 5000)
		must(t, c.Wait("the master does not wait", "r1", 5*time.Second, syncing(ha.SyncStale, ha.SyncConnecting)))
		must(t, c.Daemons["r2"].Signal(syscall.SIGCONT))
		agree(t, c, have, "r1", "r2")
	})
	t.Run("a peer that is killed in the middle of a sync", func(t *testing.T) {
		for range 2 {
			must(t, c.Daemons["r2"].Kill())
			must(t, c.Wait("the session is gone", "r1", 5*time.Second, syncing(ha.SyncStale, ha.SyncConnecting)))
			met := func() int { return strings.Count(c.Log("r1"), `msg="state sync up"`) }
			before := met()
			must(t, c.Run("r2"))
			must(t, netlab.WaitFor("a session", 8*time.Second, func() bool { return met() > before }))
		}
		agree(t, c, have, "r1", "r2")
	})
	t.Run("a peer that is stopped and started", func(t *testing.T) {
		_, err := c.Command("r2", "stop")
		must(t, err)
		_, err = c.Daemons["r2"].Wait(10 * time.Second)
		must(t, err)
		more("r1", 1000)
		must(t, c.Run("r2"))
		agree(t, c, have, "r1", "r2")
	})
	began[1] = transitions()[1] // of another life
	t.Run("a line that is cut and connections that are reset", func(t *testing.T) {
		p, err := c.Router("r1").StartRole("flows", "roughflows", "open", strconv.Itoa(have), strconv.Itoa(have+5000))
		must(t, err)
		have += 5000
		for range 3 {
			must(t, c.Router("r1").NFT("table inet cut { chain out { type filter hook output priority -300; tcp dport 7947 reject with tcp reset; }; }"))
			time.Sleep(30 * time.Millisecond)
			must(t, c.Router("r1").NFT("delete table inet cut"))
			time.Sleep(150 * time.Millisecond)
		}
		_, err = p.Wait(20 * time.Second)
		must(t, err)
		must(t, c.Port("r2", "sync0").Drop(netlab.Both, "tcp dport 7947"))
		defer c.Port("r2", "sync0").Pass()
		more("r1", 1000)
		must(t, c.Wait("the session is gone", "r1", 5*time.Second, syncing(ha.SyncStale, ha.SyncConnecting)))
		must(t, c.Port("r2", "sync0").Pass())
		agree(t, c, have, "r1", "r2")
	})
	t.Run("more events than the kernel keeps", func(t *testing.T) {
		must(t, c.Daemons["r2"].Signal(syscall.SIGSTOP))
		plays(t, c, "r2", "roughflows", "again", strconv.Itoa(have), strconv.Itoa(have+10000))
		have += 10000
		must(t, c.Daemons["r2"].Signal(syscall.SIGCONT))
		agree(t, c, have, "r1", "r2")
		s, err := c.Status("r2")
		must(t, err)
		if s.ConntrackSync.Peers[0].Dropped["overrun"] == 0 {
			t.Errorf("no overrun is counted: %v", s.ConntrackSync.Peers[0].Dropped)
		}
	})
	t.Run("short flows", func(t *testing.T) {
		echoes, err := c.Node("net").StartRole("echo", "roughecho", fmt.Sprintf("%v:%d", site.Server, roughDNS))
		must(t, err)
		must(t, c.Router("r1").NFT(roughCounter))
		plays(t, c, "r1", "roughflows", "short", "0", "5000")
		time.Sleep(300 * time.Millisecond)
		gone := sentBytes(t, c)
		t.Logf("%d bytes for 5000 flows that were gone at once, beside some others", gone)
		if gone > 5000*3 {
			t.Errorf("5000 flows that were gone within the window cost %d bytes", gone)
		}
		plays(t, c, "h1", "roughqueries", host.String(), fmt.Sprintf("%v:%d", site.Server, roughDNS), "8000")
		time.Sleep(300 * time.Millisecond)
		sent := sentBytes(t, c) - gone
		t.Logf("%d bytes on the line for 8000 queries and answers, beside some others: %d a flow", sent, sent/8000)
		if sent > 8000*40 {
			t.Errorf("8000 queries cost %d bytes", sent)
		}
		must(t, c.Router("r1").NFT("delete table inet rough"))
		must(t, echoes.Kill())
		inSync(t, c, "r1", "r2")
	})
	t.Run("reload", func(t *testing.T) {
		reloaded(t, c, site.Config+"conntrack_sync: {enabled: false}\n", "r1", "r2")
		must(t, c.Wait("off", "r1", 2*time.Second, syncing(ha.SyncOff)))
		more("r1", 100)
		reloaded(t, c, site.Config, "r1", "r2")
		agree(t, c, have, "r1", "r2")
		reloaded(t, c, site.Config+"conntrack_sync: {protocols: [udp]}\nports: {sync: 7999}\n", "r1", "r2")
		more("r1", 100)
		time.Sleep(300 * time.Millisecond)
		if n := len(established(t, c, "r2")); n < 32 {
			t.Errorf("of the connections that were told before, r2 has %d", n)
		}
		reloaded(t, c, site.Config, "r1", "r2")
		agree(t, c, have, "r1", "r2")
	})
	if got := transitions(); got != began {
		if stalled := strings.Count(c.Log("r1"), "stood still"); stalled > 0 {
			t.Logf("the machine was too busy: r1 stood still %d times, and the roles changed", stalled)
		} else {
			t.Errorf("roles changed: %v times before, %v after", began, got)
		}
	}
	after := memory(t, c, "r1")
	t.Logf("the master's daemon holds %d MiB, %d before, for %d flows", after, before, have)
	if after > before+64 {
		t.Errorf("the master's daemon holds %d MiB, %d before", after, before)
	}
	t.Run("the master's daemon is killed, and comes back", func(t *testing.T) {
		must(t, c.Daemons["r1"].Kill())
		must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
		must(t, c.Run("r1"))
		must(t, c.WaitHolder(site.LANAddress, "r1", 10*time.Second))
		agree(t, c, have, "r1", "r2")
	})
	for r, n := range ends {
		if got := n(); got > 0 {
			t.Errorf("%d connections were removed from the table of %s", got, r)
		}
	}
	_, err = c.Router("r1").Exec("conntrack", "-D", "-p", "tcp", "--dport", strconv.Itoa(roughPort), "--sport", "10000")
	must(t, err)
	have--
	agree(t, c, have, "r1", "r2")
	for r, n := range ends { // so the watching works
		if err := netlab.WaitFor("one end", time.Second, func() bool { return n() == 1 }); err != nil {
			t.Errorf("%s: %v, saw %d", r, err, n())
		}
	}
	must(t, client.Poke(5*time.Second))
	r := report(t, client)
	survived(t, c, r, "")
}

// TestRoughThree: of three nodes two die, and the flows live on the third; it
// has an older cluster key than the others for a while.
func TestRoughThree(t *testing.T) {
	nodes := "  r2: {address: 192.0.2.2, priority: 150}\n"
	config := site.Replace(site.Config, nodes, nodes+"  r3: {address: 192.0.2.3, priority: 100}\n")
	c := installed(t, netlab.PairOptions{Routers: 3, WANOwn: true}, config)
	all := []string{"r1", "r2", "r3"}
	key := func(router string) string { return filepath.Join(c.Router(router).ConfigDir(), "cluster.key") }
	old, err := os.ReadFile(key("r3"))
	must(t, err)
	secret := make([]byte, 32)
	rand.Read(secret)
	for _, r := range []string{"r1", "r2"} { // as in the middle of a change of keys
		must(t, os.WriteFile(key(r), append(slices.Clone(old), base64.StdEncoding.EncodeToString(secret)+"\n"...), 0o600))
	}
	must(t, c.Up("r1", "r2"))
	must(t, c.Run("r3"))
	must(t, c.Settled("r3", "r1", 10*time.Second))
	client, err := c.Load("h1", manyFlows())
	must(t, err)
	entries(t, c, "r1", 0, 3000)
	agree(t, c, 3000, all...)
	for i, dead := range all[:2] {
		c.Mark("crash of " + dead)
		must(t, c.PowerOff(dead))
		must(t, c.WaitHolder(site.LANAddress, all[i+1], 3*time.Second))
		time.Sleep(1500 * time.Millisecond)
	}
	must(t, client.Poke(5*time.Second))
	r := report(t, client)
	survived(t, c, r, "crash of r1", "crash of r2")
	quietly(t, "silence of the UDP flows", r, r.GapSince("crash of r1"), 3*advertise+156*advertise/256+20*time.Millisecond+noise, "under 381 ms")
}
