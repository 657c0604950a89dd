package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/ha"
	"harouter/ha/control"
	"harouter/test/netlab"
	"harouter/test/site"
)

// foreign is what other programs have on a router: tables as docker and fail2ban
// make them, rules and a route as wg-quick does, an admin's own routes.
const (
	foreignTables = `
table ip docker {
	chain FORWARD { type filter hook forward priority filter; policy accept; jump DOCKER-USER; }
	chain DOCKER-USER { return; }
	chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept; ip saddr 172.17.0.0/16 oifname != "docker0" masquerade; }
}
table inet f2b-table {
	set addr-set-sshd { type ipv4_addr; elements = { 198.51.100.77 }; }
	chain f2b-chain { type filter hook input priority filter - 1; policy accept; tcp dport 22 ip saddr @addr-set-sshd reject; }
}
`
	foreignRules = `rule add not fwmark 0xca6c table 51820 pref 32764
rule add table main suppress_prefixlength 0 pref 32763
rule add from 10.9.9.9 lookup 7777 pref 7050`
	foreignRoutes = `route add 10.200.0.0/16 dev sync0 table 51820
route add 10.99.0.0/16 via 192.168.77.3 dev lan0
route add blackhole 10.66.0.0/16 proto static metric 50
route add blackhole default table 7777`
)

// stateOf is the whole state of a router, ours and others', in sorted lines and
// without what counts or moves by itself.
func stateOf(t *testing.T, c *site.Cluster, router string) []string {
	t.Helper()
	out, err := c.Router(router).Exec("sh", "-c", `ip rule | sed 's/^/rule /'; ip -4 route show table all | grep -v '^\(broadcast\|local\) '
ip -o -4 addr | sed 's/ *valid_lft.*//; s/^[0-9]*: //; s/ secondary//; s/\\//'; nft -s list ruleset | grep -v 'elements = { ipv4 timeout' # of the grace after a takeover
cd /proc/sys/net/ipv4; for f in ip_forward conf/[lwa]*/arp_ignore conf/*/arp_announce conf/*/rp_filter conf/*/promote_secondaries conf/*/src_valid_mark conf/*/forwarding; do echo $f $(cat $f); done`)
	must(t, err)
	var lines []string
	for l := range strings.Lines(out) {
		lines = append(lines, strings.TrimSpace(l))
	}
	slices.Sort(lines)
	return lines
}

// lineDiff names the lines that only one of two states has.
func lineDiff(before, after []string) string {
	var out strings.Builder
	for _, l := range before {
		if !slices.Contains(after, l) {
			fmt.Fprintf(&out, "- %s\n", l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			fmt.Fprintf(&out, "+ %s\n", l)
		}
	}
	if out.Len() == 0 && len(before) != len(after) {
		fmt.Fprintf(&out, "%d lines, then %d\n", len(before), len(after))
	}
	return out.String()
}

// putBack waits until a router's state is as before.
func putBack(t *testing.T, c *site.Cluster, router string, before []string, within time.Duration) time.Duration {
	t.Helper()
	start := netlab.Now()
	var after []string
	if err := netlab.WaitFor("the state is as before", within, func() bool {
		after = stateOf(t, c, router)
		return slices.Equal(before, after)
	}); err != nil {
		t.Errorf("%s: %v\n%s", router, err, lineDiff(before, after))
	}
	return netlab.Now().Sub(start)
}

func repairs(s ha.Status) map[string]uint64 {
	r := s.Repairs
	return map[string]uint64{"address": r.Address, "rule": r.Rule, "route": r.Route, "table": r.Table, "sysctl": r.Sysctl}
}

// putBackWithin is a second, and what a busy machine and the reading take.
const putBackWithin = 1500 * time.Millisecond

// stoodStill tells whether the machine let a daemon wait until its guard or its
// peer had to act: then roles and times are not the repair's.
func stoodStill(t *testing.T, c *site.Cluster) bool {
	t.Helper()
	for _, r := range []string{"r1", "r2"} {
		if strings.Contains(c.Log(r), "stood still") {
			t.Logf("the daemon on %s stood still: roles and times do not count", r)
			return true
		}
	}
	return false
}

// vandalism is what another program does to a running router. do is a line of
// shell; mend is what the admin does about what was his.
type vandalism struct {
	name  string
	do    string
	kinds []string // counted on the master
	own   bool     // nothing is missing on a backup, so nothing is counted there
}

var vandalisms = []vandalism{
	{"all addresses of the lan", "ip addr flush dev lan0; ip addr add OWN/24 dev lan0 broadcast +; ip route add 10.99.0.0/16 via 192.168.77.GW dev lan0", []string{"address"}, true},
	{"all rules", "ip rule flush; ip rule add lookup main pref 32766; ip rule add lookup default pref 32767\n" + "ip -batch - <<E\n" + foreignRules + "\nE", []string{"rule"}, false},
	{"a routing table", "ip route flush table 7001", []string{"route"}, false},
	{"one route", "ip route del default table 7002 metric 0", []string{"route"}, false},
	{"the whole ruleset", "nft flush ruleset; nft -f - <<'E'" + foreignTables + "E", []string{"table"}, false},
	{"our table", "nft delete table inet harouter", []string{"table"}, false},
	{"elements", "nft delete element inet harouter virtual '{ 203.0.113.10 }'; nft delete element inet harouter slots_default '{ 7 }'", []string{"table"}, false},
	{"chains and rules", `nft flush chain inet harouter post; nft insert rule inet harouter pre drop comment '"mine"'
nft add chain inet harouter intruder '{ type filter hook forward priority 0; policy accept; }'`, []string{"table"}, false},
	{"sysctls", "echo 0 > /proc/sys/net/ipv4/conf/wan1/arp_ignore; echo 1 > /proc/sys/net/ipv4/conf/wan2/rp_filter", []string{"sysctl"}, false},
	{"forwarding", "echo 0 > /proc/sys/net/ipv4/ip_forward", []string{"sysctl"}, false},
	{"a DHCP client renews", "ip addr flush dev wan1; ip addr add WAN/25 dev wan1 broadcast +; ip route add default via 203.0.113.1 dev wan1 metric 100; sleep 0.1; ip route del default via 203.0.113.1 dev wan1 metric 100", []string{"address"}, true},
}

// TestRepair: what other programs take away on a running pair comes back within
// a second, on the master and on the backup, and what is theirs is left alone.
func TestRepair(t *testing.T) {
	c := installed(t, netlab.PairOptions{WANOwn: true, Hosts: 2}, site.Config)
	for _, r := range []string{"r1", "r2"} {
		must(t, c.Router(r).NFT(foreignTables))
		must(t, c.Router(r).IP(strings.Split(foreignRules, "\n")...))
		routes := strings.ReplaceAll(foreignRoutes, "192.168.77.3", map[string]string{"r1": "192.168.77.3", "r2": "192.168.77.2"}[r])
		must(t, c.Router(r).IP(strings.Split(routes, "\n")...))
	}
	// Rules of the admin, on one router alone: they come back with our table.
	rules := func(name, text string) {
		file := filepath.Join(c.Router("r1").ConfigDir(), "nft.d", name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(text), 0o644))
	}
	rules("10-mail.nft", "set user_servers {\n\ttype ipv4_addr\n\telements = { 198.51.100.250 }\n}\nchain user_forward {\n\toifname @wan_if ip daddr @user_servers tcp dport 25 counter reject\n}\n")
	must(t, c.Up("r1", "r2"))
	before := map[string][]string{}
	for _, r := range []string{"r1", "r2"} {
		must(t, netlab.WaitFor("the state of "+r+" rests", 15*time.Second, func() bool {
			last := before[r]
			before[r] = stateOf(t, c, r)
			lingers := r == "r2" && slices.Contains(before[r], "elements = { ipv4 }") // it was the first master
			return slices.Equal(last, before[r]) && !lingers
		}))
	}
	t.Run("the plan is this", func(t *testing.T) { planProved(t, c) })
	t.Run("rules of nft.d", func(t *testing.T) {
		mail := "ip daddr @user_servers tcp dport 25 counter"
		if got, err := c.Router("r1").Exec("nft", "list", "table", "inet", "harouter"); err != nil || !strings.Contains(got, mail) {
			t.Errorf("%v: %q is not in\n%s", err, mail, got)
		}
		rules("20-typo.nft", "chain user_input {\n\ttcp dprt 23 drop\n}\n")
		_, err := c.Command("r1", "reload")
		must(t, err)
		must(t, c.Wait("the alarm of bad rules", "r1", 5*time.Second, alarmed(ha.AlarmHookFailed, "nft.d/20-typo.nft")))
		must(t, os.Remove(filepath.Join(c.Router("r1").ConfigDir(), "nft.d", "20-typo.nft")))
		_, err = c.Command("r1", "reload")
		must(t, err)
		must(t, c.Wait("its end", "r1", 5*time.Second, func(s ha.Status) bool { return !hasAlarm(s, ha.AlarmHookFailed) }))
	})
	client := load(t, c)
	began := time.Now() // of two that start at once each may be master for a moment
	c.Mark("vandals")
	for _, v := range vandalisms {
		t.Run(v.name, func(t *testing.T) {
			for _, r := range []string{"r1", "r2"} {
				counted, err := c.Status(r)
				must(t, err)
				do := strings.NewReplacer("OWN", map[string]string{"r1": "192.168.77.2", "r2": "192.168.77.3"}[r], "WAN", map[string]string{"r1": "203.0.113.2", "r2": "203.0.113.3"}[r],
					"77.GW", map[string]string{"r1": "77.3", "r2": "77.2"}[r]).Replace(v.do)
				_, err = c.Router(r).Exec("sh", "-ec", do)
				must(t, err)
				took := putBack(t, c, r, before[r], putBackWithin+4*time.Second)
				if took > putBackWithin && stoodStill(t, c) {
					continue
				}
				atMost(t, r+": put back", took, putBackWithin, "below 400 ms")
				s, err := c.Status(r)
				must(t, err)
				for kind, n := range repairs(s) {
					more := n - repairs(counted)[kind]
					wanted := slices.Contains(v.kinds, kind) && !(v.own && r == "r2")
					if wanted && more == 0 {
						t.Errorf("%s: no %s is counted as repaired", r, kind)
					}
					if !wanted && more != 0 {
						t.Logf("%s: %d of %s are counted too", r, more, kind)
					}
				}
			}
		})
	}
	t.Run("told", func(t *testing.T) {
		events := read(t, told(t, c, "r1"))
		for _, r := range []string{"r1", "r2"} {
			for _, kind := range []string{"address", "rule", "route", "table", "sysctl"} {
				if kind == "address" && r == "r2" {
					continue
				}
				if !slices.ContainsFunc(events, func(e control.Event) bool {
					return e.Node == r && e.Kind == "repair" && e.Subject == kind && strings.Contains(e.Reason, "put back")
				}) {
					t.Errorf("%s: no event of a repair of kind %s", r, kind)
				}
			}
			if log := c.Log(r); !strings.Contains(log, "put back what another program changed") || r == "r1" && !strings.Contains(log, "put an address back") {
				t.Errorf("%s: the repairs are not in the log", r)
			}
		}
		if stoodStill(t, c) {
			return
		}
		for _, e := range events {
			if e.Kind == "alarm" && e.Time.After(began) {
				t.Errorf("an alarm: %+v", e)
			}
			if e.Kind == "role" && e.Time.After(began) && e.From != "" && slices.Contains([]string{"master", "fault"}, e.From) {
				t.Errorf("a role changed: %+v", e)
			}
		}
	})
	r := report(t, client)
	if got := r.Survivors(); got != 8 {
		t.Errorf("%d of 8 TCP flows survived", got)
	}
	if moved := r.Renatted("vandals"); len(moved) > 0 && !stoodStill(t, c) {
		t.Errorf("%d flows have another NAT", len(moved))
	}

	t.Run("a failover in the middle of a repair", func(t *testing.T) {
		for _, from := range []string{"r1", "r2"} {
			to := map[string]string{"r1": "r2", "r2": "r1"}[from]
			_, err := c.Router(from).Exec("sh", "-ec", "ip addr del 192.168.77.1/24 dev lan0; ip rule del pref 7001; ip route flush table 7001; nft delete table inet harouter")
			must(t, err)
			_, err = c.Command(from, "failover", "--to", to)
			must(t, err)
			must(t, c.WaitHolder(site.LANAddress, to, time.Second))
			must(t, c.WaitHolder(site.WAN1, to, time.Second))
		}
		for _, r := range []string{"r1", "r2"} {
			putBack(t, c, r, before[r], putBackWithin)
		}
	})
	t.Run("a device is made anew", func(t *testing.T) {
		anew := func(r, device string) {
			s, err := c.Status(r)
			must(t, err)
			must(t, c.Port(r, device).Remove())
			must(t, c.Wait(device+" is missed", r, 2*time.Second, func(s ha.Status) bool {
				return device == "lan0" && s.Role == ha.RoleFault || device == "wan1" && fmt.Sprint(s.Uplinks[0].Views[r]) == "down"
			}))
			if r == "r1" { // an uplink that dies on the master only: row 6
				must(t, c.WaitHolder(site.LANAddress, "r2", 2*time.Second))
			}
			must(t, c.Port(r, device).Create())
			if device == "lan0" {
				must(t, c.Router(r).IP("route add 10.99.0.0/16 via "+map[string]string{"r1": "192.168.77.3", "r2": "192.168.77.2"}[r]+" dev lan0"))
			}
			must(t, c.Wait(device+" is back", r, 15*time.Second, func(s ha.Status) bool {
				return s.Role != ha.RoleFault && fmt.Sprint(s.Uplinks[0].Views[r]) == "up"
			}))
			if r == "r1" { // not by itself: moves for one uplink are damped for five minutes
				_, err := c.Command("r2", "failover", "--to", "r1")
				must(t, err)
			}
			putBack(t, c, r, before[r], 6*time.Second)
			after, err := c.Status(r)
			must(t, err)
			if diff := cmp.Diff(s.Repairs, after.Repairs); diff != "" {
				t.Errorf("%s: what went with its device is counted (-before +after):\n%s", r, diff)
			}
		}
		anew("r2", "lan0")
		anew("r2", "wan1")
		anew("r1", "wan1")
	})
}
