package integration

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// TestThreeNodes: any two die one after the other, the last one serves.
func TestThreeNodes(t *testing.T) {
	nodes := "  r2: {address: 192.0.2.2, priority: 150}\n"
	config := site.Replace(site.Config, nodes, nodes+"  r3: {address: 192.0.2.3, priority: 100}\n")
	config = site.Replace(config, "preempt_delay: 2s", "preempt_delay: 1s")
	c := pair(t, netlab.PairOptions{Routers: 3, WANOwn: true}, config)
	must(t, c.Run("r3"))
	must(t, c.Settled("r3", "r1", 10*time.Second))
	all := []string{"r1", "r2", "r3"}
	for _, order := range [][]string{{"r1", "r2", "r3"}, {"r1", "r3", "r2"}, {"r3", "r2", "r1"}} {
		t.Run("only "+order[2]+" is left", func(t *testing.T) {
			alive := slices.Clone(all)
			for _, dead := range order[:2] {
				must(t, c.PowerOff(dead))
				alive = slices.DeleteFunc(alive, func(r string) bool { return r == dead })
				heir := alive[0] // in the order of priorities
				at := netlab.Now()
				must(t, c.WaitHolder(site.LANAddress, heir, 3*time.Second))
				if got, bound := netlab.Now().Sub(at), 3*advertise+156*advertise/256+noise; got > bound {
					t.Errorf("%s took over after %v, at most %v", heir, got, bound)
				}
				for _, a := range []netip.Addr{site.WAN1, site.WAN2} {
					must(t, c.WaitHolder(a, heir, time.Second))
				}
				// The hosts and ISPs have heard the announcement by now or never will.
				only(t, heir+" serves", works(t, heir+" serves", connect(t, c, "h1", echo(site.Server), 30)), site.WAN1, site.WAN2)
				for _, r := range alive {
					must(t, c.Wait(dead+" is dead and "+heir+" is master", r, 4*time.Second, func(s ha.Status) bool {
						i := slices.IndexFunc(s.Nodes, func(n ha.NodeStatus) bool { return n.Name == dead })
						return !s.Nodes[i].Alive && s.VRRP.Master == heir
					}))
				}
			}
			for _, r := range order[:2] {
				must(t, c.PowerOn(r))
			}
			must(t, c.Run(order[:2]...))
			must(t, c.WaitHolder(site.LANAddress, "r1", 10*time.Second))
			for _, r := range all {
				must(t, c.Settled(r, "r1", 10*time.Second))
			}
			must(t, c.Wait("all agree", "r1", 4*time.Second, func(s ha.Status) bool {
				for _, n := range s.Nodes {
					if !n.Alive || n.Name != "r1" && n.Role != ha.RoleBackup {
						return false
					}
				}
				return true
			}))
		})
	}
	noLeaks(t, c)
}

// TestClusterOfOne: one node is master soon, serves, and leaves everything in
// place when its daemon ends.
func TestClusterOfOne(t *testing.T) {
	t.Parallel()
	config := site.Replace(site.Config, "  r2: {address: 192.0.2.2, priority: 150}\n", "")
	c := installed(t, netlab.PairOptions{Routers: 1}, config)
	at := netlab.Now()
	must(t, c.Run("r1"))
	must(t, c.WaitHolder(site.LANAddress, "r1", 5*time.Second))
	atMost(t, "a lone node is master", netlab.Now().Sub(at), 3*advertise+56*advertise/256+2*time.Second, "340 ms")
	must(t, c.Settled("r1", "r1", 5*time.Second))
	s, err := c.Status("r1")
	must(t, err)
	if len(s.Nodes) != 1 || s.Role != ha.RoleMaster || len(s.Alarms) != 0 || !s.Config.InSync {
		t.Errorf("status: %+v", s)
	}
	only(t, "the host", works(t, "the host", connect(t, c, "h1", echo(site.Server), 30)), site.WAN1, site.WAN2)
	only(t, "the node", works(t, "the node", connect(t, c, "r1", echo(site.Server), 10)), site.WAN1, site.WAN2)
	code, err := c.Daemons["r1"].Stop(10 * time.Second)
	must(t, err)
	if code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
	works(t, "without a daemon", connect(t, c, "h1", echo(site.Server), 10))
	t.Run("without rights to be quick", func(t *testing.T) { unhurried(t, c) })
	if h := c.Holders(site.LANAddress); len(h) != 1 {
		t.Errorf("after SIGTERM of a lone node the address is held by %v", h)
	}
	noLeaks(t, c)
}

// unhurried runs the daemon where it may have neither real-time priority nor memory
// that stays: it serves, and log and doctor say what lacks.
func unhurried(t *testing.T, c *site.Cluster) {
	const rights = "-sys_nice,-ipc_lock"
	without := func(verb ...string) []string {
		return append([]string{"prlimit", "--memlock=8388608", "setpriv", "--bounding-set", rights, "--inh-caps", rights}, c.Args("r1", verb...)...)
	}
	p, err := c.Router("r1").Start("unhurried", without("run")...)
	must(t, err)
	must(t, c.Settled("r1", "r1", 5*time.Second))
	works(t, "without rights", connect(t, c, "h1", echo(site.Server), 10))
	out, _ := c.Router("r1").Exec(without("doctor", "--json")...) // its exit code tells of other things too
	log, err := os.ReadFile(p.Log)
	must(t, err)
	for _, lack := range []string{"set real-time priority", "set nice -20", "lock memory"} {
		for where, said := range map[string]string{"the log": string(log), "doctor": out} {
			if !strings.Contains(said, lack) {
				t.Errorf("%s does not say %q:\n%s", where, lack, said)
			}
		}
	}
	code, err := p.Stop(10 * time.Second)
	must(t, err)
	if code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
}

// TestNoLAN: two nodes with uplinks only.
func TestNoLAN(t *testing.T) {
	config := site.Replace(site.Config, "lans:\n  - {name: office, device: lan0, virtual_addresses: [192.168.77.1/24]}\n", "") + openEcho
	spec := netlab.Pair(netlab.PairOptions{WANOwn: true})
	spec.LANs = nil
	c := build(t, spec, config)
	cable, err := c.Port("r1", "sync0").Capture(nil)
	must(t, err)
	must(t, c.Run("r1", "r2"))
	for _, r := range []string{"r1", "r2"} {
		must(t, c.Settled(r, "r1", 15*time.Second))
		_, err := c.Serve(r)
		must(t, err)
	}
	adverts := cable.Adverts()
	for _, a := range adverts {
		if !slices.Equal(a.Addresses, []netip.Addr{site.WAN1}) {
			t.Fatalf("an advert from %v lists %v, want the first uplink's %v", a.Src, a.Addresses, site.WAN1)
		}
	}
	if len(adverts) == 0 {
		t.Error("no adverts on the cable")
	}
	held := func(by string) {
		t.Helper()
		for _, a := range []netip.Addr{site.WAN1, site.WAN2} {
			must(t, c.WaitHolder(a, by, 3*time.Second))
			works(t, a.String()+" on "+by, connect(t, c, "net", echo(a), 20))
		}
		works(t, "own traffic of "+by, connect(t, c, by, echo(site.Server), 20))
	}
	held("r1")
	works(t, "own traffic of the backup", connect(t, c, "r2", echo(site.Server), 20))
	failover(t, c, "r1", "r2")
	held("r2")
	failover(t, c, "r1", "r1") // asked on the other node
	held("r1")
	must(t, c.PowerOff("r1"))
	at := netlab.Now() // what takes the power may take a while on a busy machine
	must(t, c.WaitHolder(site.WAN1, "r2", 3*time.Second))
	atMost(t, "takeover", netlab.Now().Sub(at), 3*advertise+skew+noise, "340 ms")
	held("r2")
	noLeaks(t, c)
}

// eachMatch are policies of which each looks at something else, and leads to an
// uplink of its own. The mac is that of h3.
const eachMatch = `policies:
  - {name: never, match: {time: {not: mon-sun}}, uplinks: [u16]}
  - {name: always, match: {time: mon-sun, destination: 198.51.100.3}, uplinks: [u1]}
  - {name: far, match: {destination: "@far"}, uplinks: [u2]}
  - {name: not-far, match: {lan: l1, destination: {not: "@far"}}, uplinks: [u3]}
  - {name: mac, match: {destination: 198.51.100.5, mac: "MAC"}, uplinks: [u4]}
  - {name: not-mac, match: {destination: [198.51.100.5, 198.51.100.6], mac: {not: "MAC"}}, uplinks: [u5]}
  - {name: voice, match: {dscp: ef, destination: 198.51.100.7}, uplinks: [u6]}
  - {name: not-voice, match: {dscp: {not: ef}, destination: [198.51.100.7, 198.51.100.8]}, uplinks: [u7]}
  - {name: port, match: {destination_ports: 7000-7010, destination: 198.51.100.9}, uplinks: [u8]}
  - {name: not-port, match: {protocol: tcp, destination_ports: {not: 7007}, destination: 198.51.100.10}, uplinks: [u9]}
  - {name: from, match: {protocol: tcp, source_ports: 40000-40999, destination: 198.51.100.10/31}, uplinks: [u10]}
  - {name: not-from, match: {protocol: [tcp, udp], source_ports: {not: 40000-40999}, destination: 198.51.100.11}, uplinks: [u11]}
  - {name: not-tcp, match: {protocol: {not: tcp}}, uplinks: [u12]}
  - {name: host, match: {source: 192.168.79.100, destination: 198.51.100.13}, uplinks: [u13]}
  - {name: not-host, match: {source: [192.168.0.0/16, {not: 192.168.79.0/24}], destination: 198.51.100.12/31}, uplinks: [u14]}
  - {name: default, method: priority, uplinks: [u15, u16]}
`

// TestManyUplinks: sixteen uplinks and three lans, and as many policies.
func TestManyUplinks(t *testing.T) {
	spec := netlab.Pair(netlab.PairOptions{Routers: 1, ISPs: 16, WANOwn: true})
	for i := range 2 {
		spec.LANs = append(spec.LANs, netlab.LANSpec{
			Name: fmt.Sprintf("lan%d", i+2), Net: netip.MustParsePrefix(fmt.Sprintf("192.168.%d.0/24", 78+i)), Own: true, Hosts: 1})
	}
	var b strings.Builder
	b.WriteString("cluster: home\nnodes:\n  r1: {address: 192.0.2.1}\nvrrp: {advertise: 100ms}\nlans:\n")
	for i := range spec.LANs {
		fmt.Fprintf(&b, "  - {name: l%d, device: lan%d, virtual_addresses: [192.168.%d.1/24]}\n", i, i, 77+i)
	}
	b.WriteString("uplinks:\n")
	var virtual []netip.Addr
	for i, isp := range spec.ISPs {
		at := isp.Net.Addr().As4()
		at[3]++
		gateway := netip.AddrFrom4(at)
		at[3] += 9
		v := netip.AddrFrom4(at)
		virtual = append(virtual, v)
		fmt.Fprintf(&b, "  - {name: u%d, device: wan%d, gateway: %s, virtual_addresses: [%s/25], probe: {targets: [198.51.100.1], interval: 500ms}}\n", i+1, i+1, gateway, v)
	}
	c := build(t, spec, b.String())
	must(t, c.Up("r1"))
	for i := range spec.LANs {
		h := fmt.Sprintf("h%d", i+1)
		seen := works(t, h, connect(t, c, h, echo(site.Server), 400))
		only(t, h, seen, virtual...)
		for _, v := range virtual { // (15/16)^400 by chance
			if seen[v] == 0 {
				t.Errorf("of %s none of 400 connections used %v", h, v)
			}
		}
	}
	must(t, c.Port("r1", "wan16").Unplug())
	must(t, c.Wait("the last is down", "r1", 2*time.Second, func(s ha.Status) bool { return s.Uplinks[15].Share == 0 }))
	must(t, netlab.WaitFor("the slots in the kernel", time.Second, func() bool {
		out, err := c.Router("r1").Exec("nft", "list", "map", "inet", "harouter", "slots_default")
		return err == nil && !strings.Contains(out, "up_u16")
	}))
	only(t, "fifteen", works(t, "fifteen", connect(t, c, "h1", echo(site.Server), 200)), virtual[:15]...)
	must(t, c.Port("r1", "wan16").Plug())
	t.Run("policies", func(t *testing.T) {
		must(t, os.WriteFile(filepath.Join(filepath.Dir(c.ConfigFile("r1")), "far"), []byte("198.51.100.4\n"), 0o644))
		reloaded(t, c, b.String()+strings.ReplaceAll(eachMatch, "MAC", c.Port("h3", "eth0").MAC.String()), "r1")
		manyPolicies(t, c, virtual)
	})
	noLeaks(t, c)
}

// manyPolicies tries eachMatch from each host.
func manyPolicies(t *testing.T, c *site.Cluster, virtual []netip.Addr) {
	servers := dests(14)
	for _, a := range servers[2:] {
		must(t, c.Node("net").IP(fmt.Sprintf("addr add %v/32 dev lo", a)))
	}
	_, err := c.Serve("net", servers[2:]...)
	must(t, err)
	for host, ports := range map[string]string{"h1": "40000 40999", "h2": "41000 41999", "h3": "42000 42999"} {
		must(t, c.Host(host).Sysctl("net.ipv4.ip_local_port_range", ports))
	}
	must(t, c.Host("h1").NFT(`table ip test { chain out { type route hook output priority mangle; ip daddr 198.51.100.7 tcp dport 7007 ip dscp set ef; }; }`))
	uplink := func(a netip.Addr) string { return fmt.Sprintf("u%d", 1+slices.Index(virtual, a)) }
	for host, want := range map[string][]string{
		//     .3    .4    .5     .6     .7    .8     .9    .10    .11    .12    .13    .14
		"h1": {"u1", "u2", "u5", "u5", "u6", "u7", "u8", "u10", "u10", "u14", "u14", "u15"},
		"h2": {"u1", "u2", "u3", "u3", "u3", "u3", "u3", "u3", "u3", "u3", "u3", "u3"},
		"h3": {"u1", "u2", "u4", "u15", "u7", "u7", "u8", "u15", "u11", "u15", "u13", "u15"},
	} {
		load := netlab.Load{Drain: 10 * time.Millisecond}
		wanted := map[netip.Addr]string{}
		for i, a := range servers[2:] {
			wanted[a] = want[i]
			load.Fresh = append(load.Fresh, netlab.Fresh{Server: echo(a), Interval: 5 * time.Millisecond, Count: 3})
		}
		if host == "h1" { // what is no TCP
			load.UDP = []netlab.UDPFlows{{Server: echo(servers[13]), Flows: 3, Interval: 20 * time.Millisecond}}
		}
		client, err := c.Load(host, load)
		must(t, err)
		must(t, netlab.WaitFor("connections from "+host, 10*time.Second, func() bool {
			s, err := client.Snapshot()
			return err != nil || s.FreshOK+s.FreshFailed == 3*len(want)
		}))
		r, err := client.Stop()
		must(t, err)
		for _, a := range r.Fresh {
			if to := a.Server.Addr(); !a.OK || uplink(a.Seen.Addr()) != wanted[to] {
				t.Errorf("%s reached %v by %s, want %s %s", host, to, uplink(a.Seen.Addr()), wanted[to], a.Err)
			}
		}
		for _, f := range r.UDP {
			if got := uplink(f.Source().Addr()); got != "u12" {
				t.Errorf("%s by UDP by %s, want u12", host, got)
			}
		}
	}
}

// takeover cuts the power of r1 and expects r2 to serve.
func takeover(t *testing.T, c *site.Cluster) {
	t.Helper()
	works(t, "before", connect(t, c, "h1", echo(site.Server), 20))
	must(t, c.PowerOff("r1"))
	at := netlab.Now() // what takes the power may take a while on a busy machine
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	atMost(t, "takeover", netlab.Now().Sub(at), 3*advertise+skew+noise, "340 ms")
	for _, a := range []netip.Addr{site.WAN1, site.WAN2} {
		must(t, c.WaitHolder(a, "r2", time.Second))
	}
	only(t, "after", works(t, "after", connect(t, c, "h1", echo(site.Server), 30)), site.WAN1, site.WAN2)
	noLeaks(t, c)
}

// TestAddressOnLAN: there is no cable, the nodes' addresses lie on the lan.
func TestAddressOnLAN(t *testing.T) {
	t.Parallel()
	config := site.Replace(site.Config, "address: 192.0.2.1,", "address: 192.168.77.2,")
	config = site.Replace(config, "address: 192.0.2.2,", "address: 192.168.77.3,")
	c := pair(t, netlab.PairOptions{WANOwn: true, NoCable: true}, config)
	for _, r := range []string{"r1", "r2"} {
		s, err := c.Status(r)
		must(t, err)
		if len(s.Alarms) != 1 || s.Alarms[0].Code != ha.AlarmOneWitness || s.Alarms[0].Subject != "office" {
			t.Errorf("alarms of %s: %+v", r, s.Alarms)
		}
	}
	handOver(t, c, "r1", "r2")
	handOver(t, c, "r2", "r1")
	takeover(t, c)
}

// TestUnicastOnly: adverts go between the nodes' addresses only, and one that was
// taken out of the file is told so there.
func TestUnicastOnly(t *testing.T) {
	t.Parallel()
	config := site.Replace(site.Config, "vrrp: {id: 51,", "vrrp: {id: 51, unicast_only: true,")
	c := installed(t, netlab.PairOptions{WANOwn: true}, config)
	onLAN, err := c.Port("r1", "lan0").Capture(nil)
	must(t, err)
	onCable, err := c.Port("r1", "sync0").Capture(nil)
	must(t, err)
	must(t, c.Up("r1", "r2"))
	time.Sleep(5 * advertise)
	if n := len(onLAN.Adverts()); n > 0 {
		t.Errorf("%d adverts on the lan", n)
	}
	n := 0
	for _, a := range onCable.Adverts() {
		if a.Out {
			n++
			if a.Dst != netip.MustParseAddr("192.0.2.2") || !slices.Contains(a.Addresses, site.LANAddress) {
				t.Errorf("an advert on the cable: to %v, listing %v", a.Dst, a.Addresses)
			}
		}
	}
	if n < 5 {
		t.Errorf("%d adverts of r1 on the cable, want at least 5", n)
	}
	takeover(t, c)

	// Taken out of the file while it was off, with nobody who greets it on the lan.
	must(t, c.Wait("that r1 is off", "r2", 5*time.Second, func(s ha.Status) bool { return !s.Nodes[0].Alive }))
	reloaded(t, c, site.Replace(config, "  r1: {address: 192.0.2.1, priority: 200}\n", ""), "r2")
	must(t, c.PowerOn("r1"))
	must(t, c.Run("r1"))
	must(t, c.Wait("that it hears of it", "r1", 5*time.Second, alarmed(ha.AlarmConfigDiffers, "node r1")))
	must(t, c.WaitHolder(site.LANAddress, "r2", 2*time.Second))
}

// TestOtherDevices: the devices of r2 have other names.
func TestOtherDevices(t *testing.T) {
	t.Parallel()
	config := site.Replace(site.Config, "r2: {address: 192.0.2.2, priority: 150}",
		"r2: {address: 192.0.2.2, priority: 150, devices: {office: br0, cable: enp3s0, dsl: eth0.7}}")
	c := installed(t, netlab.PairOptions{WANOwn: true}, config)
	for old, name := range map[string]string{"lan0": "br0", "wan1": "enp3s0", "wan2": "eth0.7"} {
		must(t, c.Router("r2").IP("link set "+old+" down", "link set "+old+" name "+name, "link set "+name+" up"))
	}
	must(t, c.Up("r1", "r2"))
	one, err := c.Status("r1")
	must(t, err)
	must(t, c.Wait("same plan", "r2", 2*time.Second, func(s ha.Status) bool {
		return s.PlanHash == one.PlanHash && s.Config.InSync && s.Uplinks[0].Device == "enp3s0" && s.Uplinks[1].Views["r2"].String() == "up"
	}))
	takeover(t, c)
	have, err := c.Router("r2").Addresses()
	must(t, err)
	for device, p := range map[string]string{"br0": "192.168.77.1/24", "enp3s0": "203.0.113.10/25", "eth0.7": "203.0.113.140/25"} {
		if !slices.Contains(have[device], netip.MustParsePrefix(p)) {
			t.Errorf("r2 has %v on %s, want %s", have[device], device, p)
		}
	}
}

// openEcho lets the internet reach the echo server on a router.
const openEcho = "firewall: {allow: [{protocol: [tcp, udp], ports: 7007}]}\n"
