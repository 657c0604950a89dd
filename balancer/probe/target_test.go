package probe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"harouter/test/netlab"
)

// asked is a case of the methods: a target and what comes of it.
type asked struct {
	name   string
	target Target
	reason string // "": a good round
}

func (c asked) run(t *testing.T) {
	t.Run(c.name, func(t *testing.T) {
		u := wan1(1)
		u.Targets = []Target{c.target}
		if !strings.HasSuffix(c.reason, "80ms") {
			u.Timeout = time.Second // it takes no longer than the answer
		}
		r := start(t, u)
		r.all(r.next(2), c.reason == "", false, c.reason)
		if t.Failed() {
			return
		}
		for _, b := range r.rounds() {
			if c.reason != "" && !strings.HasSuffix(b.Reason, c.reason) {
				t.Errorf("reason %q, want %q", b.Reason, c.reason)
			}
		}
	})
}

var target1 = netip.MustParseAddr("198.51.100.1")

// drop makes packets of that kind unheard of in the ISP.
func (i isp) drop(t *testing.T, match string) {
	i.sh(t, `nft add table inet d; nft "add chain inet d in { type filter hook input priority 0; }"
		nft add rule inet d in `+match)
}

func TestTCP(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	route(t)
	i.tcp(t, "198.51.100.1:443", hangs)
	i.tcp(t, "198.51.100.1:25", says("220 hello"))
	i.drop(t, "tcp dport 81 drop")
	i.drop(t, "tcp dport 82 reject with icmp type admin-prohibited")
	for _, c := range []asked{
		{"connects", Target{Method: TCP}, ""},
		{"another port", Target{Method: TCP, Port: 25}, ""},
		{"refused", Target{Method: TCP, Port: 80}, ""},
		{"silent", Target{Method: TCP, Port: 81}, "tcp 198.51.100.1:81: no answer within 80ms"},
		{"forbidden on the way", Target{Method: TCP, Port: 82}, "tcp 198.51.100.1:82 from 203.0.113.10: no route to host"},
	} {
		c.target.Address = target1
		c.run(t)
	}
	// A connection each round must leave nothing behind.
	table, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(table), "\n") {
		if f := strings.Fields(line); len(f) > 3 && f[3] == "06" {
			t.Errorf("TIME_WAIT: %s", line)
		}
	}
}

func TestDNS(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	route(t)
	of := func(change func(*dnsmessage.Message)) func(q dnsmessage.Message) [][]byte {
		return func(q dnsmessage.Message) [][]byte {
			q.Response = true
			change(&q)
			return [][]byte{pack(q)}
		}
	}
	code := func(c dnsmessage.RCode) func(q dnsmessage.Message) [][]byte {
		return of(func(m *dnsmessage.Message) { m.RCode = c })
	}
	is := func(name string, kind dnsmessage.Type) func(q dnsmessage.Message) [][]byte {
		return func(q dnsmessage.Message) [][]byte {
			if len(q.Questions) != 1 || q.Questions[0].Name.String() != name || q.Questions[0].Type != kind || !q.RecursionDesired {
				return nil
			}
			return code(dnsmessage.RCodeSuccess)(q)
		}
	}
	good := code(dnsmessage.RCodeSuccess)
	const silent = ": no answer within 80ms"
	var cases []asked
	for n, c := range []struct {
		name   string
		port   uint16
		ask    string
		answer func(q dnsmessage.Message) [][]byte
		reason string
	}{
		{"the root", 53, "", is(".", dnsmessage.TypeNS), ""},
		{"the root, written out", 0, ".", is(".", dnsmessage.TypeNS), ""},
		{"a name", 0, "example.org", is("example.org.", dnsmessage.TypeA), ""},
		{"its letters changed", 0, "example.org", of(func(m *dnsmessage.Message) {
			m.Questions[0].Name = dnsmessage.MustNewName("eXaMpLe.ORG.")
		}), ""},
		{"no such name", 0, "", code(dnsmessage.RCodeNameError), ""},
		{"refused", 0, "", code(dnsmessage.RCodeRefused), ""},
		{"refused without the question", 0, "", of(func(m *dnsmessage.Message) {
			m.RCode, m.Questions = dnsmessage.RCodeRefused, nil
		}), ""},
		{"good without the question", 0, "", of(func(m *dnsmessage.Message) { m.Questions = nil }), silent},
		{"SERVFAIL", 0, "", code(dnsmessage.RCodeServerFailure), " from 203.0.113.10: the name server says SERVFAIL"},
		{"wrong id", 0, "", of(func(m *dnsmessage.Message) { m.ID++ }), silent},
		{"wrong id, then right", 0, "", func(q dnsmessage.Message) [][]byte {
			return append(of(func(m *dnsmessage.Message) { m.ID++; m.RCode = dnsmessage.RCodeServerFailure })(q), good(q)...)
		}, ""},
		{"another question", 0, "", of(func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeA }), silent},
		{"our own query", 0, "", of(func(m *dnsmessage.Message) { m.Response = false }), silent},
		{"garbage", 0, "", func(dnsmessage.Message) [][]byte { return [][]byte{{}, {1}, bytes.Repeat([]byte{255}, 590)} }, silent},
		{"garbage, then right", 0, "", func(q dnsmessage.Message) [][]byte { return append([][]byte{{}, {7}}, good(q)...) }, ""},
		{"silent", 0, "", func(dnsmessage.Message) [][]byte { return nil }, silent},
		{"slow, in time", 0, "", func(q dnsmessage.Message) [][]byte { time.Sleep(150 * time.Millisecond); return good(q) }, ""},
		{"too slow", 0, "", func(q dnsmessage.Message) [][]byte { time.Sleep(2 * time.Second); return good(q) }, silent},
	} {
		target := Target{Method: DNS, Address: target1, Port: c.port, Name: c.ask}
		if c.port == 0 {
			target.Port = uint16(5300 + n)
		} else {
			target.Port = 0 // the default
		}
		i.dns(t, netip.AddrPortFrom(target1, target.port()).String(), c.answer)
		if c.reason != "" {
			c.reason = target.String() + c.reason
		}
		cases = append(cases, asked{c.name, target, c.reason})
	}
	cases = append(cases, asked{"nobody listens", Target{Method: DNS, Address: target1, Port: 5399},
		"dns 198.51.100.1:5399 from 203.0.113.10: connection refused"})
	for _, c := range cases {
		c.run(t)
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	ca, stranger := newAuthority(t), newAuthority(t)
	ca.trust(t)
	i := newISP(t)
	i.attach(t, "wan1")
	route(t)
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nsome of it"
	host := func(name string) func(net.Conn) {
		return func(c net.Conn) {
			b := make([]byte, 2000)
			n, err := c.Read(b)
			if err == nil && strings.HasPrefix(string(b[:n]), "GET /x?y HTTP/1.1\r\nHost: "+name+"\r\n") {
				_, _ = c.Write([]byte(ok))
				_, _ = c.Read(b)
			}
		}
	}
	const cut = "the connection ended before the answer did"
	var cases []asked
	for n, c := range []struct {
		name, url string // % stands for the port
		serve     func(net.Conn)
		reason    string
	}{
		{"the default", "", says(ok), ""},
		{"host and path", "http://probe.example:%/x?y", host("probe.example:5401"), ""},
		{"by https", "https://probe.example:%/x?y", ca.secure(t, host("probe.example:5402"), "probe.example"), ""},
		{"by https to an address", "https://198.51.100.2:%/", ca.secure(t, says(ok)), ""},
		{"moved", "http://a:%/", says("HTTP/1.1 302 Found\r\nLocation: http://192.0.2.77/\r\n\r\n"), ""},
		{"not found", "http://a:%/", says("HTTP/1.0 404 Not Found\r\n\r\n"), ""},
		{"unavailable", "http://a:%/", says("HTTP/1.1 503 Service Unavailable\r\n\r\n"), "the server says 503 Service Unavailable"},
		{"garbage", "http://a:%/", says("\x00\x1b[2J" + strings.Repeat("x", 5000) + "\r\n\r\n"), "the answer is not HTTP"},
		{"a head without end", "http://a:%/", says("HTTP/1.1 200 OK\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 80)), cut},
		{"half an answer", "http://a:%/", func(c net.Conn) {
			_, _ = c.Read(make([]byte, 2000))
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nA: b\r\n"))
		}, cut},
		{"hangs up", "http://a:%/", func(c net.Conn) { _, _ = c.Read(make([]byte, 2000)) }, cut},
		{"hangs", "http://a:%/", hangs, "no answer within 80ms"},
		{"trickles", "http://a:%/", func(c net.Conn) {
			for _, b := range []byte(ok) {
				time.Sleep(50 * time.Millisecond)
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
			}
		}, "no answer within 80ms"},
		{"hangs in the handshake", "https://a:%/", hangs, "no answer within 80ms"},
		{"hangs up in the handshake", "https://a:%/", func(net.Conn) {}, ""},
		{"no TLS", "https://a:%/", says(ok), "TLS handshake: tls: first record does not look like a TLS handshake"},
		{"another name", "https://other.example:%/", ca.secure(t, says(ok), "probe.example"), "the certificate is not for other.example"},
		{"a stranger's certificate", "https://probe.example:%/", stranger.secure(t, says(ok), "probe.example"),
			"the certificate is from an authority that this machine does not trust"},
	} {
		port := 5400 + n
		if c.url == "" {
			port = 80
		}
		i.tcp(t, netip.AddrPortFrom(target1, uint16(port)).String(), c.serve)
		target := Target{Method: HTTP, Address: target1, URL: strings.ReplaceAll(c.url, "%", strconv.Itoa(port))}
		if c.name == "hangs up in the handshake" { // a reset or an end, as it happens
			t.Run(c.name, func(t *testing.T) {
				u := wan1(1)
				u.Targets, u.Timeout = []Target{target}, time.Second
				r := start(t, u)
				r.all(r.next(2), false, false, " from 203.0.113.10: ")
			})
			continue
		}
		cases = append(cases, asked{c.name, target, c.reason})
	}
	cases = append(cases,
		asked{"refused", Target{Method: HTTP, Address: target1, URL: "http://a:5499/"}, "http://a:5499/ at 198.51.100.1 from 203.0.113.10: connection refused"},
		asked{"no URL", Target{Method: HTTP, Address: target1, URL: "ftp://a/"}, `"ftp://a/" is no http or https URL`},
	)
	for _, c := range cases {
		c.run(t)
	}
}

// Neighbours are asked by ARP, also by a node that has no address there, and
// along with targets of other methods.
func TestARPTargets(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	i.sh(t, "ip addr add 203.0.113.2/25 dev line")
	neighbour := Target{Method: ARP, Address: netip.MustParseAddr("203.0.113.2")}
	nobody := Target{Method: ARP, Address: netip.MustParseAddr("203.0.113.3")}
	with := func(quorum int, ts ...Target) Uplink {
		u := wan1(quorum)
		u.Targets, u.Gateway = ts, netip.MustParseAddr("203.0.113.4") // which is not there
		return u
	}
	r := start(t, with(1, neighbour, nobody))
	r.Source("cable", netip.Addr{})
	r.all(r.next(2), true, false, "")
	r.Configure([]Uplink{with(2, neighbour, nobody)})
	r.all(r.next(2), false, false, "arp 203.0.113.3: no answer within 80ms")
	r.Configure([]Uplink{with(1, neighbour, targets("198.51.100.1")[0])})
	r.all(r.next(2), false, true, "gateway 203.0.113.4: no answer within 80ms")
	route(t)
	r.Source("cable", netip.MustParseAddr(own))
	r.Configure([]Uplink{with(2, neighbour, targets("198.51.100.1")[0])})
	r.all(r.next(2), true, false, "")
	i.drop(t, "icmp type echo-request drop")
	r.all(r.next(2), false, false, "198.51.100.1: no answer within 80ms")
	r.Configure([]Uplink{with(1, targets("198.51.100.1")[0], neighbour)})
	r.all(r.next(2), true, false, "")
	netlab.Sh(t, "ip link set wan1 arp off")
	r.Configure([]Uplink{with(1, nobody)})
	r.all(r.next(2), false, false, "arp 203.0.113.3: wan1 does not speak ARP")
}

// One target by each method: the quorum counts over all, and everything that
// they send carries mark and source, and none of it leaves by another uplink.
func TestMethodsTogether(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i, other := newISP(t), newISP(t)
	i.attach(t, "wan1")
	other.attach(t, "wan2")
	other.sh(t, `ip addr del 203.0.113.1/25 dev line; ip addr add 203.0.113.129/25 dev line
		ip route add 203.0.113.0/25 via 203.0.113.140
		nft add table inet t; nft add counter inet t seen
		nft "add chain inet t in { type filter hook prerouting priority 0; }"
		nft add rule inet t in ip daddr 198.51.100.0/24 counter name seen`)
	netlab.Sh(t, "ip addr add 203.0.113.9/25 dev wan1") // what the kernel would choose
	route(t)
	netlab.Sh(t, `ip addr add 203.0.113.140/25 dev wan2; ip route add default via 203.0.113.129
		nft -f - <<-E
		table inet t {
			counter strange { }
			counter fine { }
			chain out { type filter hook output priority 0
				ip daddr 198.51.100.0/24 meta mark 0x100 ip saddr 203.0.113.10 counter name fine accept
				ip daddr 198.51.100.0/24 counter name strange
			}
			}
		E`)
	i.tcp(t, "198.51.100.2:443", hangs)
	i.dns(t, "198.51.100.3:53", func(q dnsmessage.Message) [][]byte { q.Response = true; return [][]byte{pack(q)} })
	i.tcp(t, "198.51.100.1:80", says("HTTP/1.1 204 No Content\r\n\r\n"))
	u := wan1(4)
	u.Targets = []Target{
		{Address: target1},
		{Address: netip.MustParseAddr("198.51.100.2"), Method: TCP},
		{Address: netip.MustParseAddr("198.51.100.3"), Method: DNS},
		{Address: target1, Method: HTTP},
	}
	r := start(t, u)
	r.all(r.next(3), true, false, "")
	i.drop(t, "tcp dport 443 drop")
	r.all(r.next(2), false, false, "tcp 198.51.100.2:443: no answer within 80ms")
	u.Quorum = 3
	r.Configure([]Uplink{u})
	r.all(r.next(2), true, false, "")
	i.drop(t, "udp dport 53 drop")
	r.all(r.next(2), false, false, "dns 198.51.100.3:53: no answer within 80ms")

	netlab.Sh(t, "ip route del default via 203.0.113.1 table 7001")
	u.Quorum = 1
	r.Configure([]Uplink{u})
	bad := r.next(3)
	for _, name := range []string{"198.51.100.1", "tcp 198.51.100.2:443", "dns 198.51.100.3:53", "http 198.51.100.1"} {
		r.all(bad, false, false, name+" from 203.0.113.10: no route to host")
	}
	if gap := bad[2].At.Sub(bad[0].At); gap > time.Second { // such a round waits for nothing
		t.Errorf("two rounds took %v", gap)
	}
	if n := other.count(t, "inet", "seen"); n != 0 {
		t.Errorf("%d packets went out by the other uplink", n)
	}
	if strange, fine := (isp{}).count(t, "inet", "strange"), (isp{}).count(t, "inet", "fine"); strange != 0 || fine < 20 {
		t.Errorf("%d packets without mark or source, %d with both", strange, fine)
	}
}

func TestAskErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		target Target
		want   string
	}{
		{"a name too long", Target{Method: DNS, Address: target1, Name: strings.Repeat("a.", 200)}, "dns 198.51.100.1:53 from 127.0.0.1: "},
		{"a name with an empty label", Target{Method: DNS, Address: target1, Name: "a..b"}, "dns 198.51.100.1:53 from 127.0.0.1: "},
		{"not there", Target{Method: Method(9), Address: target1}, "198.51.100.1 from 127.0.0.1: Method(9) cannot be asked"},
		{"arp", Target{Method: ARP, Address: target1}, "arp 198.51.100.1 from 127.0.0.1: arp cannot be asked"},
		{"no port", Target{Method: HTTP, Address: target1, URL: "http://a:0/"}, `"http://a:0/" has no port from 1 to 65535`},
		{"no host", Target{Method: HTTP, Address: target1, URL: "https:///x"}, `"https:///x" names no host`},
		{"a long URL", Target{Method: HTTP, Address: target1, URL: "http://" + strings.Repeat("ä", 500) + "\x01/"}, "… from 127.0.0.1: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.target.ask(t.Context(), netip.MustParseAddr("127.0.0.1"), 0, func(time.Duration) { t.Error("answered") })
			if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x01\n") {
				t.Errorf("%q, want %q", err, c.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for m := TCP; m <= HTTP; m++ {
		if err := (Target{Method: m, Address: target1}).ask(ctx, netip.MustParseAddr("127.0.0.1"), 0, func(time.Duration) { t.Error("answered") }); err != nil {
			t.Errorf("%v after the end: %v", m, err)
		}
	}
}

// FuzzReply: no bytes make it panic, and only an answer to the question passes.
func FuzzReply(f *testing.F) {
	q, err := question("example.org")
	if err != nil {
		f.Fatal(err)
	}
	good := pack(dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true}, Questions: []dnsmessage.Question{q}})
	f.Add(good, uint16(7))
	f.Add(good[:12], uint16(7))
	f.Add(good[:len(good)-1], uint16(7))
	f.Add([]byte{0, 7, 0x80, 5, 0, 0, 0, 0, 0, 0, 0, 0}, uint16(7))
	f.Add([]byte{0, 7, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}, uint16(7)) // a name that points at itself
	f.Fuzz(func(t *testing.T, b []byte, id uint16) {
		code, ok := reply(b, id, q)
		if !ok {
			return
		}
		if len(b) < 12 || b[0] != byte(id>>8) || b[1] != byte(id) || b[2]&0x80 == 0 || byte(code)&15 != b[3]&15 {
			t.Fatalf("reply(%x) = %v", b, code)
		}
		if b[4]|b[5] == 0 && code == dnsmessage.RCodeSuccess {
			t.Fatalf("reply(%x): success without the question", b)
		}
	})
}

// FuzzStatus: no bytes make it panic or read on for ever, and what it takes
// begins like HTTP.
func FuzzStatus(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 404\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\nA", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"", "\r\n", "HTTP/9.9 -01 x\r\n\r\n", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz", "ICY 200 OK\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		code, err := status(bytes.NewReader(b))
		if err == nil && (code < 0 || code > 999 || !bytes.HasPrefix(b, []byte("HTTP/"))) {
			t.Fatalf("status(%q) = %d", b, code)
		}
		if err != nil && (code != 0 || strings.ContainsAny(err.Error(), "\r\n")) {
			t.Fatalf("status(%q) = %d, %q", b, code, err)
		}
	})
}

// endless never stops sending headers.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	if e.read == 0 {
		e.read = copy(b, "HTTP/1.1 200 OK\r\nA: ")
		return e.read, nil
	}
	for i := range b {
		b[i] = 'x'
	}
	if e.read += len(b); e.read > 1<<20 {
		return 0, errors.New("read too much")
	}
	return len(b), nil
}

func TestHeadIsBounded(t *testing.T) {
	t.Parallel()
	var from io.Reader = &endless{}
	if _, err := status(from); err == nil || err.Error() != "the connection ended before the answer did" {
		t.Error(err)
	}
}
