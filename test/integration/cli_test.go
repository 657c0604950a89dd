package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// TestWords: what needs no daemon, and what each command says without one.
func TestWords(t *testing.T) {
	t.Parallel()
	binary, err := site.Binary()
	must(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "harouter.yaml")
	must(t, os.WriteFile(file, []byte(site.Config), 0o644))
	// What a daemon that was killed leaves behind.
	must(t, os.Mkdir(filepath.Join(dir, "left"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "left", "harouter.sock"), nil, 0o660))
	for _, v := range []struct {
		args string
		code int
		want string // in what is printed, on either stream
	}{
		{"version", 0, "harouter "},
		{"--help", 0, "failover"},
		{"", 0, "failover"},
		{"status --help", 0, "--watch"},
		{"check " + file, 0, "fine"},
		{"check --node r7 " + file, 0, "fine"},
		{"plan --node r1 --config " + file, 0, "nft -f -"},
		{"plan --node r1 --role boss --config " + file, 2, "allowed: master or backup"},
		{"check " + dir + "/none.yaml", 2, "none.yaml"},
		{"check " + file + " " + file, 2, "one file"},
		{"stauts", 2, `"stauts"`},
		{"nonsense", 2, `"nonsense"`},
		{"status --jsno", 2, "--jsno"},
		{"--nonsense status", 2, "--nonsense"},
		{"status now", 2, "now"},
		{"run now", 2, "now"},
		{"stop now", 2, "now"},
		{"token now", 2, "now"},
		{"token --ttl 25h", 2, "--ttl 25h0m0s"},
		{"join", 2, "one address"},
		{"join --config " + file + " 192.0.2.1 --token x", 2, "is here already"},
		{"join --config " + dir + "/none/a 192.0.2.1 --token x", 2, "this is no ticket"},
		{"version now", 2, "now"},
		{"failover r2", 2, "r2"},
		{"failover --to", 2, "--to"},
		{"failover --to r2 --auto", 2, "--auto"},
		{"status", 1, "no harouter daemon runs here"},
		{"status --json", 1, "no harouter daemon runs here"},
		{"status --watch", 1, "no harouter daemon runs here"},
		{"events", 1, "no harouter daemon runs here"},
		{"events --follow", 1, "no harouter daemon runs here"},
		{"events now", 2, "now"},
		{"events -n -1", 2, "-n -1"},
		{"events -n some", 2, `"some" for "-n, --number" flag: invalid syntax; see harouter events --help`},
		{"token --ttl 5", 2, `flag: missing unit in duration "5"`},
		{"events --help", 0, "--follow"},
		{"failover", 1, "no harouter daemon runs here"},
		{"failover --auto", 1, "no harouter daemon runs here"},
		{"stop", 1, "there is nothing to stop"},
		{"leave", 1, "there is nothing to stop"},
		{"uplink dissable cable", 2, `there is no command "uplink dissable"; did you mean "disable"? see harouter uplink --help`},
		{"token", 1, "no harouter daemon runs here"},
		{"--run-dir " + dir + "/left status", 1, "no harouter daemon runs here"},
		{"--run-dir /" + strings.Repeat("x", 200) + " status", 1, "shorter --run-dir"},
		{"guard-process", 1, ""},
		{"guard-process " + dir, 1, ""},
	} {
		t.Run(v.args, func(t *testing.T) {
			cmd := exec.Command(binary, append([]string{"--run-dir", dir, "--state-dir", dir}, strings.Fields(v.args)...)...)
			if strings.Contains(v.args, "--run-dir") {
				cmd.Args = append([]string{binary}, strings.Fields(v.args)...)
			}
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != v.code || !strings.Contains(string(out), v.want) || strings.Contains(string(out), "goroutine ") {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, v.code, v.want, out)
			}
			if v.code > 0 && !strings.HasPrefix(v.args, "check") && bytes.Count(out, []byte("\n")) > 1 {
				t.Errorf("more than one sentence:\n%s", out)
			}
		})
	}
}

// contract is what DESIGN.md §4 promises of status --json, with its types; a
// null stands for a value that may not be known.
const contract = `{"cluster":"home","node":"r1","role":"master","since":"RFC3339","version":"1",
 "config":{"hash":"1","in_sync":true},
 "vrrp":{"id":51,"version":3,"priority":200,"effective_priority":200,"advertise_ms":100,"master":"r1","transitions":1},
 "virtual_addresses":[{"address":"192.168.77.1/24","device":"lan0","present":true}],
 "nodes":[{"name":"r1","address":"192.0.2.1","alive":true,"role":"master","priority":200,"effective_priority":200,"config_hash":"1","version":"1"}],
 "uplinks":[{"name":"cable","id":1,"device":"wan1","state":"up","since":"RFC3339","share":0.668,"rtt_ms":1.2,"loss":0.0,
   "flows":10,"rx_bps":0,"tx_bps":0,"views":{"r1":"up","r2":"up"}}],
 "policies":[{"name":"default","method":"weighted","shares":{"cable":0.668,"dsl":0.332}}],
 "plan_hash":"1",
 "conntrack_sync":{"peers":[{"name":"r2","state":"off","lag_ms":null,"flows_here":null,"flows_there":null,"resyncs":0,"dropped":{}}]},
 "repairs":{"address":0,"rule":0,"route":0,"table":0,"sysctl":0},
 "drops":{"vrrp":{"ttl":0,"checksum":0,"sender":0,"version":0,"length":0,"forged":0},"gossip":{"key":0,"garbage":0},"sync":{}},
 "alarms":[]}`

// promised fails for every key of want that got has not, or has with another
// type. Every element of a list must hold what the first of want holds.
func promised(t *testing.T, at string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s is %v, not an object", at, got)
			return
		}
		for k, v := range want {
			if g, ok := got[k]; ok {
				promised(t, at+"."+k, v, g)
			} else {
				t.Errorf("%s.%s is missing", at, k)
			}
		}
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) < len(want) {
			t.Errorf("%s is %v, not such a list", at, got)
			return
		}
		for _, g := range got {
			if len(want) > 0 {
				promised(t, at+"[]", want[0], g)
			}
		}
	case string:
		text, ok := got.(string)
		if _, err := time.Parse(time.RFC3339Nano, text); !ok || text == "" || want == "RFC3339" && err != nil {
			t.Errorf("%s is %v, not like %q", at, got, want)
		}
	case float64:
		if _, ok := got.(float64); !ok {
			t.Errorf("%s is %v, not a number", at, got)
		}
	case bool:
		if _, ok := got.(bool); !ok {
			t.Errorf("%s is %v, neither true nor false", at, got)
		}
	}
}

// TestCommands uses one pair for what operators do, and what they mistype.
func TestCommands(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Config)
	before := all(t, c, "r1")

	t.Run("failover with nobody there", func(t *testing.T) {
		must(t, c.Up("r1"))
		was, err := c.Status("r1")
		must(t, err)
		for _, args := range [][]string{{"failover"}, {"failover", "--to", "r2"}} {
			if _, err := c.Command("r1", args...); err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), "nothing changed") {
				t.Errorf("%v: %v", args, err)
			}
		}
		now, err := c.Status("r1")
		must(t, err)
		if now.Role != ha.RoleMaster || now.VRRP.Transitions != was.VRRP.Transitions || !slices.Equal(c.Holders(site.LANAddress), []string{"r1"}) {
			t.Errorf("something changed: %+v", now.VRRP)
		}
	})
	must(t, c.Run("r2"))
	for _, r := range []string{"r1", "r2"} {
		must(t, c.Settled(r, "r1", 5*time.Second))
	}
	for _, r := range []string{"r1", "r2"} {
		must(t, c.Wait("both are known, and all is measured", r, 5*time.Second, func(s ha.Status) bool {
			return s.Nodes[0].Role == ha.RoleMaster && s.Nodes[1].Role == ha.RoleBackup && !slices.ContainsFunc(s.Uplinks, func(u ha.UplinkStatus) bool {
				return u.RTTMS == nil || u.Loss == nil || u.Flows == nil || u.RxBPS == nil || u.TxBPS == nil || len(u.Views) != 2
			})
		}))
	}

	t.Run("status --json", func(t *testing.T) {
		var want any
		must(t, json.Unmarshal([]byte(contract), &want))
		for _, r := range []string{"r1", "r2"} {
			out, err := c.Command(r, "status", "--json")
			must(t, err)
			var got any
			must(t, json.Unmarshal([]byte(out), &got))
			promised(t, r, want, got)
		}
	})
	t.Run("status", func(t *testing.T) {
		for _, r := range []string{"r1", "r2"} {
			out, err := c.Command(r, "status")
			must(t, err)
			fits(t, out)
			for _, word := range []string{"home", "r1", "r2", "master", "backup", "cable", "dsl", "192.168.77.1/24", "203.0.113.140/25", "no alarms"} {
				if !strings.Contains(out, word) {
					t.Errorf("%s: no %q in:\n%s", r, word, out)
				}
			}
			if strings.Contains(out, "\x1b") {
				t.Errorf("%s: escape codes, though this is no terminal", r)
			}
		}
	})
	t.Run("status --watch --json", func(t *testing.T) {
		out, err := c.Router("r2").Exec(append([]string{"timeout", "1.5"}, c.Args("r2", "status", "--json", "--watch")...)...)
		if err == nil || !strings.Contains(err.Error(), "exit status 124") {
			t.Fatalf("it ended by itself: %v", err)
		}
		lines := bufio.NewScanner(strings.NewReader(out))
		lines.Buffer(nil, 1<<20)
		n := 0
		for ; lines.Scan(); n++ {
			var s ha.Status
			if err := json.Unmarshal(lines.Bytes(), &s); err != nil || s.Node != "r2" {
				t.Errorf("line %d: %v: %s", n+1, err, lines.Text())
			}
		}
		if n < 2 {
			t.Errorf("%d lines in 1.5 s", n)
		}
	})
	t.Run("failover, mistyped", func(t *testing.T) {
		for _, r := range []string{"r1", "r2"} {
			if _, err := c.Command(r, "failover", "--to", "r3"); err == nil || !strings.Contains(err.Error(), "exit status 2") || !strings.Contains(err.Error(), `"r3"`) {
				t.Errorf("to an unknown node, asked on %s: %v", r, err)
			}
			if _, err := c.Command(r, "failover", "--to", "r1"); err != nil {
				t.Errorf("to the master itself, asked on %s: %v", r, err)
			}
		}
		s, err := c.Status("r1")
		must(t, err)
		if s.Role != ha.RoleMaster || s.VRRP.Transitions != 1 {
			t.Errorf("something changed: %v after %d transitions", s.Role, s.VRRP.Transitions)
		}
		_, err = c.Command("r1", "failover", "--auto")
		must(t, err)
	})

	t.Run("SIGTERM with a peer", func(t *testing.T) {
		at := netlab.Now()
		code, err := c.Daemons["r1"].Stop(10 * time.Second)
		if err != nil || code != 0 {
			t.Errorf("exit code %d, %v", code, err)
		}
		atMost(t, "SIGTERM", netlab.Now().Sub(at), 10*time.Second, "1 s")
		must(t, c.WaitHolder(site.LANAddress, "r2", time.Second))
		left := all(t, c, "r1")
		for _, want := range []string{"table inet harouter", "lookup 7001", "table 7002"} {
			if !strings.Contains(left, want) {
				t.Errorf("%q did not stay:\n%s", want, left)
			}
		}
		for _, a := range []string{" 192.168.77.1/24 ", " 203.0.113.10/25 ", " 203.0.113.140/25 "} {
			if strings.Contains(left, a) {
				t.Errorf("%s stayed:\n%s", a, left)
			}
		}
		if ps, err := c.Router("r1").Processes(); err != nil || len(ps) > 0 {
			t.Errorf("processes stayed: %v %v", ps, err)
		}
	})
	t.Run("the next run finds what stayed, and cleans up", func(t *testing.T) {
		must(t, c.Run("r1"))
		must(t, c.Wait("a backup", "r1", 5*time.Second, func(s ha.Status) bool { return s.Role == ha.RoleBackup && s.VRRP.Master == "r2" }))
		out, err := c.Command("r1", "stop", "--clean")
		if err != nil || !strings.Contains(out, "removed") {
			t.Errorf("stop --clean: %q %v", out, err)
		}
		if after := all(t, c, "r1"); after != before {
			t.Errorf("something stayed:\nbefore:\n%s\nafter:\n%s", before, after)
		}
		if h := c.Holders(site.LANAddress); !slices.Equal(h, []string{"r2"}) {
			t.Errorf("the address is held by %v", h)
		}
	})
	t.Run("stop of the last", func(t *testing.T) {
		must(t, c.Wait("alone", "r2", 3*time.Second, func(s ha.Status) bool { return !s.Nodes[0].Alive }))
		_, err := c.Command("r2", "stop")
		must(t, err)
		if h := c.Holders(site.LANAddress); !slices.Equal(h, []string{"r2"}) {
			t.Errorf("the address is held by %v", h)
		}
		ps, err := c.Router("r2").Processes()
		if err != nil || len(ps) != 1 {
			t.Errorf("want the guard alone: %v %v", ps, err)
		}
		for range 2 {
			if _, err := c.Command("r2", "stop", "--clean"); err != nil {
				t.Error(err)
			}
		}
		if h := c.Holders(site.LANAddress); len(h) > 0 {
			t.Errorf("after stop --clean the address is held by %v", h)
		}
	})
}
