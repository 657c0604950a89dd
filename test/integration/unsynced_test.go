package integration

import (
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// TestUnsyncedReturn: the better node returns and cannot have the connections
// (row 4): after conntrack_sync.timeout that is an alarm, and it stays backup
// until they are there. Then it takes the role, and leaves it by SIGTERM, without
// a loss (row 3).
func TestUnsyncedReturn(t *testing.T) {
	t.Parallel()
	config := site.Replace(site.Config, "preempt_delay: 2s}", "preempt_delay: 1s}\nconntrack_sync: {timeout: 2s}")
	c := installed(t, netlab.PairOptions{WANOwn: true}, config)
	must(t, c.Run("r2"))
	must(t, c.Wait("r2 is master", "r2", 5*time.Second, func(s ha.Status) bool { return s.Role == ha.RoleMaster }))
	nft := func(words string) {
		t.Helper()
		_, err := c.Router("r1").Exec("nft", words)
		must(t, err)
	}
	nft("add table inet block; add chain inet block in { type filter hook input priority -400; }; " +
		"add rule inet block in tcp dport 7947 drop; add rule inet block in tcp sport 7947 drop")
	must(t, c.Run("r1"))
	for router, other := range map[string]string{"r1": "r2", "r2": "r1"} {
		must(t, c.Wait("the alarm", router, 6*time.Second, func(s ha.Status) bool {
			for _, a := range s.Alarms {
				if a.Code == ha.AlarmUnsynced && a.Subject == other {
					return true
				}
			}
			return false
		}))
	}
	s, err := c.Status("r1")
	must(t, err)
	if s.Role != ha.RoleBackup || s.VRRP.Master != "r2" {
		t.Errorf("r1 is %v, the master is %q", s.Role, s.VRRP.Master)
	}
	if text := s.Alarms[0].Text; !strings.Contains(text, "r1 stays backup until they are") {
		t.Errorf("the alarm does not say what happens: %q", text)
	}

	// From here on the connections are watched: from before the failback.
	load := light()
	load.Fresh[0].Interval = 10 * time.Millisecond
	client, err := c.Load("h1", load)
	must(t, err)
	time.Sleep(300 * time.Millisecond)
	c.Mark("failback")
	nft("delete table inet block")
	must(t, c.WaitHolder(site.LANAddress, "r1", 6*time.Second))
	for _, router := range []string{"r1", "r2"} {
		must(t, c.Wait("no alarm", router, 2*time.Second, func(s ha.Status) bool { return len(s.Alarms) == 0 }))
	}
	inSync(t, c, "r1", "r2")
	c.Mark("term")
	began := time.Now()
	code, err := c.Daemons["r1"].Stop(10 * time.Second)
	must(t, err)
	if code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
	atMost(t, "SIGTERM", time.Since(began), 5*time.Second, "1.1 s, a second without a packet")
	must(t, client.Poke(5*time.Second))
	r := report(t, client)
	survived(t, c, r, "failback", "term")
	if n := r.LostSince("failback"); n > 0 {
		t.Errorf("%d UDP packets were lost", n)
	}
	if n := r.FreshFailedSince("failback"); n > 0 {
		t.Errorf("%d new connections failed", n)
	}
	events, err := c.Command("r2", "events", "--json")
	must(t, err)
	var sync []string
	for line := range strings.Lines(events) {
		if strings.Contains(line, `"kind":"sync"`) && strings.Contains(line, `"node":"r1"`) {
			sync = append(sync, strings.TrimSpace(line))
		}
	}
	t.Log("sync events of r1:\n" + strings.Join(sync, "\n"))
	if len(sync) < 1 || len(sync) > 4 || !strings.Contains(strings.Join(sync, ""), `"to":"synced"`) {
		t.Errorf("%d sync events of r1", len(sync))
	}
}
