package integration

import (
	"os"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

func write(t *testing.T, c *site.Cluster, text string, routers ...string) {
	t.Helper()
	for _, r := range routers {
		must(t, os.WriteFile(c.ConfigFile(r), []byte(text), 0o644))
	}
}

func TestReload(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	text := site.Replace(site.Config, "weight: 2", "weight: 3")
	write(t, c, text, "r1", "r2")
	must(t, c.Wait("the edited file is an alarm", "r1", 4*time.Second, func(s ha.Status) bool { return len(s.Alarms) == 1 }))
	out, err := c.Command("r2", "reload")
	must(t, err)
	t.Log(out)
	for _, r := range []string{"r1", "r2"} {
		must(t, c.Wait("three to one", r, 3*time.Second, func(s ha.Status) bool {
			return s.Config.Generation == 2 && s.Uplinks[0].Share == .75 && s.Config.InSync && len(s.Alarms) == 0
		}))
	}
	write(t, c, strings.Replace(text, "weight: 3", "weight: 5", 1), "r1")
	out, err = c.Command("r1", "reload")
	if err == nil {
		t.Fatal(out)
	}
	t.Log(err)
}
