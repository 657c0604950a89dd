package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// policyCounts are how many policies stand before the one that takes all.
var policyCounts = []int{1, 8, 64}

// The routers take turns, since the machine is never as quick for long.
const (
	streamTime = time.Second
	turns      = 3 // of each run
)

var policiesBench = bench{
	name: "policies", title: "one router with 1, 8 and 64 policies: forwarding of what is established, and new connections", peer: "see below",
	notes: []string{
		"forwarding, peer: the bare kernel, one default route and one rule that masquerades. UDP packets of 64 bytes by iperf3, as fast as it can.",
		"forwarding costs about 1.05 us a packet more than bare, however many policies: 0.65 are ip rules, by which the kernel then finds both destination and source (0.45 for a single one of anybody's), 0.37 our chains.",
		"forwarding, iptables: the peer is the router of the next line, which has ip rules and marks as we have.",
		"new connections, peer: rules of iptables as Net-ISP-Balance writes them, one rule that marks for each policy, and a draw of 2:1 at the end.",
		"replicated: a pair on either side. Ours has a second node that runs and takes each connection into its kernel at once; the peer has conntrackd on two routers, FTFW,",
		"as its manual advises (the second keeps connections in a cache until a failover), or, into the kernel, with DisableExternalCache On, which does at once what ours does.",
		"These connections live for 50 ms, so that each is one to be told; in the row without the word they are reset at once.",
		"Without the word ours is a cluster of one, and the peer runs nothing beside its rules. What the second router does is paid by the same processors, on both sides.",
		"Policies are of a TCP port each, which no connection here has: all are asked in vain. Client, router and server share the processors: the ratio counts.",
	},
	run: policies,
}

func policies(l *lab) error {
	bare, err := bareRouter()
	if err != nil {
		return err
	}
	defer bare.Close()
	for _, n := range policyCounts {
		if err := policiesOf(l, bare, n); err != nil {
			return fmt.Errorf("%d policies: %w", n, err)
		}
	}
	return nil
}

func policiesOf(l *lab, bare *netlab.Site, n int) (err error) {
	b, err := newBalancing(n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	what := fmt.Sprintf("%d policies: ", n)
	for i := range l.runs {
		for range turns {
			if err := errors.Join(b.forwardings(l, what, bare), b.beginnings(l, what)); err != nil {
				return err
			}
		}
		l.tell("%d policies, run %d of %d", n, i+1, l.runs)
	}
	return nil
}

// forwardings measures once what is established.
func (b *balancing) forwardings(l *lab, what string, bare *netlab.Site) (err error) {
	var rates [3]float64
	for i, s := range []*netlab.Site{b.ours.Site, bare, b.rules} {
		if rates[i], err = streamed(s); err != nil {
			return err
		}
	}
	for i, peer := range []string{"forwarding", "forwarding, iptables"} {
		row := l.row(what+peer, "packets/s")
		row.Add(Ours, rates[0], noise{})
		row.Add(Theirs, rates[1+i], noise{})
	}
	return nil
}

// beginnings measures once new connections.
func (b *balancing) beginnings(l *lab, what string) error {
	const lone, cached, kept = "new connections", "new connections, replicated", "new connections, replicated into the kernel"
	for _, side := range []struct {
		of *netlab.Site
		Side
		keep time.Duration
		rows []string
	}{
		{b.ours.Site, Ours, keepTime, []string{cached, kept}}, {b.cache, Theirs, keepTime, []string{cached}}, {b.table, Theirs, keepTime, []string{kept}},
		{b.alone.Site, Ours, 0, []string{lone}}, {b.rules, Theirs, 0, []string{lone}},
	} {
		rate, failed, err := hammered(side.of, side.keep)
		if err == nil && failed > 1 {
			err = fmt.Errorf("%.1f %% of the connections failed", failed)
		}
		if err == nil && side.keep > 0 && side.of != b.cache {
			err = inSecond(l, what, side.of, side.Side, rate)
		}
		if err != nil {
			return err
		}
		for _, row := range side.rows {
			l.row(what+row, "per s").Add(side.Side, rate, noise{})
		}
		if err := side.of.Router("r1").FlushConnections(); err != nil {
			return err
		}
		time.Sleep(calmTime)
	}
	return nil
}

// inSecond counts what the second router has.
func inSecond(l *lab, what string, s *netlab.Site, side Side, rate float64) error {
	time.Sleep(calmTime)
	text, err := s.Router("r2").ReadSysctl("net.netfilter.nf_conntrack_count")
	if err != nil {
		return err
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil {
		return fmt.Errorf("count the second router's connections: %w", err)
	}
	l.row(what+"of these in the second router's kernel", "%").Add(side, 100*n/(rate*hammerTime.Seconds()), noise{})
	return nil
}

// calmTime is what a second router needs to hear that all of them ended.
const calmTime = 300 * time.Millisecond

// ourPolicies is the part of the file.
func ourPolicies(n int) string {
	var b strings.Builder
	b.WriteString("policies:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: p%d, match: {protocol: tcp, destination_ports: %d}, uplinks: [%s]}\n", i, policyPort+i, [2]string{"cable", "dsl"}[i%2])
	}
	return b.String()
}

const policyPort = 20000 // of the first; no other part of the bench has it

// bareRouter forwards by one route and one rule.
func bareRouter() (*netlab.Site, error) {
	s, err := newSite(netlab.PairOptions{WANOwn: true})
	if err != nil {
		return nil, err
	}
	r := s.Router("r1")
	if err := errors.Join(
		r.Sysctl("net.ipv4.ip_forward", "1"),
		r.IP("addr add 192.168.77.1/24 dev lan0", "route add default via 203.0.113.1 dev wan1"),
		r.NFT(`table ip nat { chain post { type nat hook postrouting priority srcnat; oifname "wan1" masquerade; }; }`),
	); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// iptablesRules are those of a router of marks: a flow that has one keeps it;
// each policy is a rule; what is left is drawn.
func iptablesRules(n int) string {
	lines := []string{
		"*mangle",
		":MARK1 - [0:0]", ":MARK2 - [0:0]",
		"-A MARK1 -j MARK --set-mark 0x100", "-A MARK1 -j CONNMARK --save-mark",
		"-A MARK2 -j MARK --set-mark 0x200", "-A MARK2 -j CONNMARK --save-mark",
		"-A PREROUTING -i lan0 -m conntrack --ctstate ESTABLISHED,RELATED -j CONNMARK --restore-mark",
	}
	for i := range n {
		lines = append(lines, fmt.Sprintf("-A PREROUTING -i lan0 -p tcp --dport %d -m conntrack --ctstate NEW -j MARK%d", policyPort+i, 1+i%2))
	}
	lines = append(lines,
		"-A PREROUTING -i lan0 -m conntrack --ctstate NEW -m mark --mark 0 -m statistic --mode random --probability 0.6667 -j MARK1",
		"-A PREROUTING -i lan0 -m conntrack --ctstate NEW -m mark --mark 0 -j MARK2",
		"COMMIT", "*nat",
		"-A POSTROUTING -o wan1 -j MASQUERADE", "-A POSTROUTING -o wan2 -j MASQUERADE",
		"COMMIT", "")
	return strings.Join(lines, "\n")
}

// iptables makes such a router.
func iptables(r *netlab.Node, n int) error {
	_, err := r.ExecInput(iptablesRules(n), tool("iptables-restore"))
	return errors.Join(err,
		r.Sysctl("net.ipv4.ip_forward", "1"),
		r.IP("addr add 192.168.77.1/24 dev lan0",
			"route add default via 203.0.113.1 dev wan1 table 101", "rule add fwmark 0x100 lookup 101 priority 101",
			"route add default via 203.0.113.129 dev wan2 table 102", "rule add fwmark 0x200 lookup 102 priority 102",
			"route add default via 203.0.113.1 dev wan1"))
}

// streamed is how many packets a second of one UDP flow come through: to the
// server's machine, whether or not iperf3 there gets a processor in time to read
// them.
func streamed(s *netlab.Site) (float64, error) {
	server, err := s.Node("net").Start("iperf3", tool("iperf3"), "-s", "-1", "-B", site.Server.String())
	if err != nil {
		return 0, err
	}
	defer func() { _, _ = server.Stop(time.Second) }()
	before, err := datagrams(s.Node("net"))
	if err != nil {
		return 0, err
	}
	var out string
	err = netlab.WaitFor("iperf3", 10*time.Second, func() bool {
		out, err = s.Host("h1").Exec(tool("iperf3"), "-c", site.Server.String(), "-u", "-l", "64", "-b", "0", "-J", "-t", fmt.Sprint(streamTime.Seconds()))
		listens := err == nil && !strings.Contains(out, `"error":`) // with -J it ends with 0 all the same
		if !listens {
			time.Sleep(100 * time.Millisecond)
		}
		return listens
	})
	if err != nil {
		return 0, err
	}
	after, err := datagrams(s.Node("net"))
	if err != nil {
		return 0, err
	}
	var all struct {
		End struct {
			Sum struct {
				Seconds float64 `json:"seconds"`
			} `json:"sum"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		return 0, err
	}
	if sum := all.End.Sum; sum.Seconds > 0 {
		return (after - before) / sum.Seconds, nil
	}
	return 0, fmt.Errorf("iperf3 says nothing: %.200s", out)
}

// datagrams is how many of UDP came to a node so far, with those that found no
// room to wait for their reader.
func datagrams(n *netlab.Node) (float64, error) {
	text, err := n.Exec("cat", "/proc/net/snmp")
	if err != nil {
		return 0, err
	}
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		var sum float64
		for _, name := range []string{"InDatagrams", "RcvbufErrors"} {
			i := slices.Index(names, name)
			if i < 0 || i >= len(fields) {
				return 0, fmt.Errorf("count datagrams: no %s in /proc/net/snmp", name)
			}
			v, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return 0, fmt.Errorf("count datagrams: %w", err)
			}
			sum += v
		}
		return sum, nil
	}
	return 0, errors.New("count datagrams: nothing of UDP in /proc/net/snmp")
}
