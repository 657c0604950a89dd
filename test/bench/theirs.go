package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// theirsBench has the stored figures of Net-ISP-Balance beside ours, measured now:
// one router, the same lines, weights and load. They are min, median and max of
// five runs of 21 Nov 2026 (research/baseline-netispbalance.md: git 23ac740, module
// 1.33, foolsm 1.0.14, Debian 12, Linux 6.18.44, a virtual machine with two cores).
var theirsBench = bench{
	name: "theirs", title: "one router beside Net-ISP-Balance: weights 1:1, probes: interval 200ms, timeout 200ms, fall 3 (there 4), rise 5", peer: "Net-ISP-Balance",
	notes: []string{
		"Net-ISP-Balance: NOT measured here. Stored figures of 21 Nov 2026, min / median / max of 5 runs, of 3 with its fastest settings and 1 in words;",
		"of which the column runs counts the three. Version 1.33 (git 23ac740) with foolsm 1.0.14, at interval 200ms, timeout 200ms; address lost and reconfiguration at its defaults.",
		"a fresh connection each 20 ms (there 50 ms, so that 2.5 of ours are one of theirs); 12 UDP flows at 20 ms: a gap of that is none.",
		"return: from the ISP's return to the first connection over it. There it grows with the outage: 91.0 / 91.5 / 92.5 s at its defaults after 40 s.",
		"killed: SIGKILL in the midst of a change, then 20 connections while nothing runs.",
	},
	run: theirs,
}

// stored are the figures of Net-ISP-Balance, by the rows that ours have.
var stored = []struct {
	what, unit string
	values     []float64
	word       string
}{
	{"share of the first ISP (wanted 50)", "%", []float64{48.7, 49.5, 51.0}, ""},
	{"reconfiguration: wall time", "ms", []float64{409, 451, 497}, ""},
	{"reconfiguration: longest UDP gap", "ms", []float64{340, 359, 401}, ""},
	{"reconfiguration: UDP packets lost", "", []float64{192, 204, 228}, ""},
	{"reconfiguration: fresh connections failed", "", []float64{6, 6, 8}, ""},
	{"reconfiguration: forwarding", "", nil, "off meanwhile"},
	{"foreign rules of iptables", "", nil, "lost"},
	{"foreign chains of iptables", "", nil, "lost"},
	{"foreign tables of nft", "", nil, "kept"},
	{"foreign routes of the main table", "", nil, "lost"},
	{"foreign routes of another table", "", nil, "kept"},
	{"foreign ip rules", "", nil, "lost"},
	{"policy of iptables' FORWARD", "", nil, "set to DROP"},
	{"killed: forwarding", "", nil, "off x4"},
	{"killed: fresh connections failed of 20", "", []float64{20, 20, 20}, ""},
	{"carrier loss: fresh connections work again", "ms", []float64{1330, 1970, 2220}, ""},
	{"carrier loss: fresh connections failed", "", []float64{13, 22, 36}, ""},
	{"carrier loss: longest UDP gap, healthy ISP", "ms", []float64{340, 340, 360}, ""},
	{"carrier loss: UDP flows of the dead ISP moved", "%", []float64{0, 0, 0}, ""},
	{"silent death: fresh connections work again", "ms", []float64{1920, 2200, 2250}, ""},
	{"silent death: fresh connections failed", "", []float64{17, 24, 30}, ""},
	{"silent death: longest UDP gap, healthy ISP", "ms", []float64{320, 340, 380}, ""},
	{"silent death: UDP flows of the dead ISP moved", "%", []float64{0, 0, 0}, ""},
	{"address lost: fresh connections work again", "ms", []float64{17830, 17930, 19570}, ""},
	{"address lost: fresh connections failed", "", []float64{207, 207, 208}, ""},
	{"address lost: longest UDP gap, healthy ISP", "ms", []float64{10360, 10380, 10420}, ""},
	{"return after 20 s", "ms", []float64{18600, 19400, 19700}, ""},
	{"both ISPs down and back: rules and routes", "", nil, "damaged, tried once"},
}

func theirs(l *lab) error {
	var failed error
	for i := range l.runs {
		l.tell("run %d of %d", i+1, l.runs)
		if err := errors.Join(theirsFaults(l), theirsReturn(l, 3*time.Second), theirsReturn(l, 20*time.Second)); err != nil {
			l.tell("%v", err)
			failed = errors.Join(failed, fmt.Errorf("run %d: %w", i+1, err))
		}
	}
	for _, s := range stored {
		r := l.row(s.what, s.unit)
		for _, v := range s.values {
			r.Add(Theirs, v, noise{})
		}
		if s.word != "" {
			r.Say(Theirs, s.word)
		}
	}
	return failed
}

// foreign is what another program has in the kernel: how it is put there, and how
// it is seen.
var foreign = []struct{ what, put, see string }{
	{"foreign rules of iptables", "iptables -A INPUT -p tcp --dport 4444 -j ACCEPT; iptables -t nat -A POSTROUTING -s 10.99.0.0/24 -j MASQUERADE; iptables -t mangle -A FORWARD -p tcp --dport 4445 -j MARK --set-mark 0x40000",
		"iptables -S INPUT; iptables -t nat -S POSTROUTING; iptables -t mangle -S FORWARD"},
	{"foreign chains of iptables", "iptables -N f2b-sshd; iptables -A f2b-sshd -s 198.51.100.66 -j DROP; iptables -I INPUT -p tcp --dport 22 -j f2b-sshd", "iptables -S f2b-sshd; iptables -S INPUT"},
	{"foreign tables of nft", "nft add table inet foreign; nft add chain inet foreign c '{ type filter hook input priority 5; }'; nft add rule inet foreign c tcp dport 4446 accept", "nft list table inet foreign"},
	{"foreign routes of the main table", "ip route add 10.99.1.0/24 via 192.168.77.100; ip route add 10.99.2.0/24 via 192.168.77.100 proto bird", "ip route show 10.99.1.0/24; ip route show 10.99.2.0/24"},
	{"foreign routes of another table", "ip route add 10.99.3.0/24 via 192.168.77.100 table 400", "ip route show table 400"},
	{"foreign ip rules", "ip rule add priority 400 from 10.99.0.0/16 lookup 400", "ip rule show priority 400"},
	{"policy of iptables' FORWARD", "iptables -P FORWARD ACCEPT", "iptables -S FORWARD"},
}

// theirsSite is one router with addresses of its own at its lines, as the other has.
func theirsSite(foreigners bool) (*site.Cluster, error) {
	c, err := cluster(netlab.PairOptions{Routers: 1, WANOwn: true},
		"  r2: {address: 192.0.2.2, priority: 150}\n", "", "    virtual_addresses: [203.0.113.10/25]\n", "", "    virtual_addresses: [203.0.113.140/25]\n", "", "weight: 2", "weight: 1")
	if err != nil {
		return nil, err
	}
	for _, f := range foreign {
		if err == nil && foreigners {
			_, err = c.Router("r1").Exec("sh", "-ec", f.put)
		}
	}
	if err = errors.Join(err, func() error { return c.Up("r1") }()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func theirsFaults(l *lab) (err error) {
	c, err := theirsSite(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	r1 := c.Router("r1")
	see := func(what string) string {
		out, err := r1.Exec("sh", "-ec", what)
		if err != nil {
			return err.Error()
		}
		return out
	}
	var before []string
	for _, f := range foreign {
		before = append(before, see(f.see))
	}
	if err := theirsShare(l, c); err != nil {
		return err
	}
	if err := theirsChange(l, c); err != nil {
		return err
	}
	for i := range 4 { // as often as it was tried there, each at another moment
		if err := theirsKill(l, c, time.Duration(i*i)*4*time.Millisecond, i); err != nil {
			return fmt.Errorf("killed: %w", err)
		}
	}
	settled := func() error { return c.Settled("r1", "r1", 40*time.Second) } // the second return of a line is damped
	address := "203.0.113.2/25"
	for _, fault := range []struct {
		what       string
		dead, live string
		aim        float64
		do, undo   func() error
	}{
		{"carrier loss", "isp2", "isp1", 100, c.Port("r1", "wan2").Unplug, c.Port("r1", "wan2").Plug},
		{"silent death", "isp1", "isp2", 1000, func() error { return c.BlackholeBeyond("isp1") }, func() error { return c.Restore("isp1") }},
		{"address lost", "isp1", "isp2", 1000, func() error { return r1.IP("addr del " + address + " dev wan1") }, func() error { return r1.IP("addr add " + address + " dev wan1") }},
	} {
		if err := death(l, c, fault.what, fault.dead, fault.live, fault.aim, fault.do); err != nil {
			return fmt.Errorf("%s: %w", fault.what, err)
		}
		if err := errors.Join(fault.undo(), settled()); err != nil {
			return fmt.Errorf("after %s: %w", fault.what, err)
		}
	}
	const ours = "ip rule; ip route show table all | grep 'proto 200' | sort; nft -s list chains"
	was := see(ours)
	if err := errors.Join(c.Blackhole("isp1"), c.Blackhole("isp2")); err != nil {
		return err
	}
	time.Sleep(3 * time.Second)
	if err := errors.Join(c.Restore("isp1"), c.Restore("isp2"), settled()); err != nil {
		return fmt.Errorf("both ISPs: %w", err)
	}
	l.row("both ISPs down and back: rules and routes", "").Say(Ours, word(see(ours) == was, "as before", "changed"))
	for i, f := range foreign {
		l.row(f.what, "").Say(Ours, word(see(f.see) == before[i], "kept", "CHANGED"))
	}
	return nil
}

func word(ok bool, yes, no string) string {
	if ok {
		return yes
	}
	return no
}

func forwards(c *site.Cluster) bool {
	out, err := c.Router("r1").Exec("sysctl", "-n", "net.ipv4.ip_forward")
	return err == nil && strings.TrimSpace(out) == "1"
}

// many opens n connections, one a millisecond, and counts by ISP.
func many(c *site.Cluster, n int) (map[string]int, error) {
	client, err := c.Load("h1", netlab.Load{
		Fresh: []netlab.Fresh{{Server: netip.AddrPortFrom(site.Server, netlab.EchoPort), Interval: time.Millisecond, Count: n}}, Drain: 100 * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	done := netlab.WaitFor("all connections", time.Minute, func() bool {
		time.Sleep(20 * time.Millisecond)
		s, err := client.Snapshot()
		return err != nil || s.FreshOK+s.FreshFailed >= n
	})
	r, err := client.Stop()
	if err := errors.Join(done, err); err != nil {
		return nil, err
	}
	return r.FreshByISP(0, 0), nil
}

func theirsShare(l *lab, c *site.Cluster) error {
	took, err := many(c, connections)
	if err != nil {
		return err
	}
	all := took["isp1"] + took["isp2"]
	if all == 0 {
		return errors.New("no connection worked")
	}
	l.row("share of the first ISP (wanted 50)", "%").Add(Ours, 100*float64(took["isp1"])/float64(all), noise{})
	return nil
}

// edit gives the router another weight of a line in its file, which is a change
// of everything that balances.
func edit(c *site.Cluster, n int) error {
	text, err := os.ReadFile(c.ConfigFile("r1"))
	if err != nil {
		return err
	}
	const key = "    weight: "
	i := strings.Index(string(text), key) + len(key)
	end := i + strings.IndexByte(string(text[i:]), '\n')
	return os.WriteFile(c.ConfigFile("r1"), fmt.Appendf(nil, "%s%d%s", text[:i], n, text[end:]), 0o644)
}

// theirsChange reloads a changed file under traffic.
func theirsChange(l *lab, c *site.Cluster) error {
	const every = 20 * time.Millisecond
	server := netip.AddrPortFrom(site.Server, netlab.EchoPort)
	client, err := c.Load("h1", netlab.Load{
		UDP: []netlab.UDPFlows{{Server: server, Flows: 12, Interval: every}}, Fresh: []netlab.Fresh{{Server: server, Interval: every}}, Drain: 200 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	time.Sleep(500 * time.Millisecond)
	at := c.Mark("change")
	off := false
	done := edit(c, 3)
	if done == nil {
		_, done = c.Command("r1", "reload")
	}
	took := netlab.Now().Sub(at)
	for netlab.Now().Sub(at) < time.Second {
		off = off || !forwards(c)
	}
	end := netlab.Now()
	r, err := client.Stop()
	if err := errors.Join(done, err); err != nil {
		return err
	}
	late := noise{r.Lag, r.StallSince("change")}
	gap, lost := time.Duration(0), 0
	for _, f := range r.UDP {
		gap, lost = max(gap, f.Gap(at, end)), lost+f.Lost(at, end)
	}
	l.row("reconfiguration: wall time", "ms").Add(Ours, ms(took), late)
	l.row("reconfiguration: longest UDP gap", "ms").Aim(2*ms(every)).Add(Ours, ms(gap), late)
	l.row("reconfiguration: UDP packets lost", "").Aim(0).Add(Ours, float64(lost), noise{})
	l.row("reconfiguration: fresh connections failed", "").Aim(0).Add(Ours, float64(r.FreshFailedSince("change")), noise{})
	l.row("reconfiguration: forwarding", "").Say(Ours, word(off, "OFF", "on"))
	return nil
}

// theirsKill kills the daemon while it takes a change into use.
func theirsKill(l *lab, c *site.Cluster, after time.Duration, n int) error {
	if err := edit(c, 1+n%2); err != nil {
		return err
	}
	reload, err := c.Router("r1").Start("reload", c.Args("r1", "reload")...)
	if err != nil {
		return err
	}
	time.Sleep(after)
	if err := (ourPair{c}).kill("r1"); err != nil {
		return err
	}
	_, _ = reload.Wait(15 * time.Second) // it fails, or was just in time
	took, err := many(c, 20)
	if err != nil {
		return err
	}
	l.row("killed: forwarding", "").Say(Ours, word(forwards(c), "on", "OFF"))
	l.row("killed: fresh connections failed of 20", "").Aim(0).Add(Ours, float64(20-took["isp1"]-took["isp2"]), noise{})
	return c.Up("r1")
}

// theirsReturn measures how long it takes until an ISP that was away for so long
// is used again.
func theirsReturn(l *lab, outage time.Duration) (err error) {
	c, err := theirsSite(false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.BlackholeBeyond("isp1"); err != nil {
		return err
	}
	time.Sleep(outage)
	client, err := c.Load("h1", netlab.Load{
		Fresh: []netlab.Fresh{{Server: netip.AddrPortFrom(site.Server, netlab.EchoPort), Interval: 20 * time.Millisecond}}, Drain: 200 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	back := c.Mark("back")
	mended := c.Restore("isp1")
	used := netlab.WaitFor("a connection over the ISP that is back", time.Minute, func() bool {
		time.Sleep(100 * time.Millisecond)
		s, err := c.Status("r1")
		return err == nil && len(s.Uplinks) > 0 && s.Uplinks[0].Share > 0
	})
	time.Sleep(500 * time.Millisecond)
	r, err := client.Stop()
	if err := errors.Join(mended, used, err); err != nil {
		return err
	}
	for _, a := range r.Fresh {
		if a.OK && a.Start > back && c.ISPOf(a.Seen.Addr()) == "isp1" {
			late := noise{r.Lag, r.StallSince("back")}
			l.row(fmt.Sprintf("return after %.0f s", outage.Seconds()), "ms").Aim(2000).Add(Ours, ms(a.Start.Sub(back)), late)
			l.row(fmt.Sprintf("return after %.0f s: fresh connections failed", outage.Seconds()), "").Add(Ours, float64(r.FreshFailedSince("back")), noise{})
			return nil
		}
	}
	return fmt.Errorf("no connection over isp1 after its return")
}
