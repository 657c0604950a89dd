package interop

import (
	"os"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
)

// TestRefused: where the two cannot agree each is master for itself, as the
// protocol has it, and says why it does not listen. With checksum "plain" we
// understand them, not they us: that is why "pseudo" is the default.
func TestRefused(t *testing.T) {
	t.Parallel()
	other := password
	other.password = "another1"
	for name, c := range map[string]struct {
		ours, theirs settings
		daemon       daemon
		drop         string // what we count
		says         string // what they log
	}{
		"another password":                  {other, password, keepalived{}, "authentication", "received an invalid passwd"},
		"a password that they do not have":  {password, two, keepalived{}, "authentication", "received a 1 auth, expecting 0"},
		"a password that we do not have":    {two, password, keepalived{}, "authentication", "received a 0 auth, expecting 1"},
		"another version":                   {three, two, keepalived{}, "version", "wrong version. Received 3 and expect 2"},
		"plain checksum, keepalived":        {plainSums, three, keepalived{}, "", "hecksum"},
		"plain checksum, FRR":               {plainSums, three, frr{}, "", "Backup -> Master"},
		"another interval, FRR":             {settings{version: 3, advertise: 150 * ms}, three, frr{}, "", ""},
		"another interval, keepalived":      {settings{version: 3, advertise: 150 * ms}, three, keepalived{}, "", ""},
		"another interval of ours, reverse": {three, settings{version: 3, advertise: 150 * ms}, keepalived{}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			twice(t, c.ours, func(t testing.TB) {
				l := newLAN(t)
				must(t, c.daemon.start(l, "r2", c.theirs, member{priority: low}))
				must(t, harouter{}.start(l, "r1", c.ours, member{priority: high}))
				if c.drop == "" && c.says == "" {
					l.reigns(t, "r1", c.ours)
					return
				}
				// The lesser one claims to be master all the same. It need not go on with
				// it: of keepalived 2.2.7 no more is heard while it logs packets that it
				// refuses, although it stays master for itself.
				if err := netlab.WaitFor("two masters", 15*time.Second, func() bool {
					ours := l.claims("r1", 0)
					return len(ours) >= 3 && len(l.claims("r2", ours[0].At.Add(200*ms))) > 0
				}); err != nil {
					t.Fatal(err)
				}
				if st, err := l.cluster.Status("r1"); err != nil || st.Role != ha.RoleMaster {
					t.Errorf("r1 is %v, %v", st.Role, err)
				}
				if c.drop != "" {
					must(t, l.cluster.Wait("the reason is counted", "r1", 3*time.Second, func(s ha.Status) bool { return s.Drops.VRRP[c.drop] > 0 }))
				}
				if err := netlab.WaitFor(c.says+" in their log", 3*time.Second, func() bool {
					text, err := os.ReadFile(l.runs["r2"].Log)
					return err == nil && strings.Contains(string(text), c.says)
				}); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
