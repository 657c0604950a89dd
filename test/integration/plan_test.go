package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
	"harouter/test/site"
)

// planState prints what a plan makes, without the marks and counts of the daemon.
const planState = `ip rule | grep '^7' | grep -v '^7050:'; ip -4 route show table all proto 200 | sort
nft -s list table inet harouter | sed 's/ comment ".*//; /elements = { ipv4 timeout/d'`

// planProved: the script of `harouter plan`, run where nothing is but devices of
// the same names, gives the same as the daemon that runs.
func planProved(t *testing.T, c *site.Cluster) {
	for router, role := range map[string]string{"r1": "master", "r2": "backup"} {
		script, err := c.Command(router, "plan", "--role", role)
		must(t, err)
		want, err := c.Router(router).Exec("sh", "-ec", planState)
		must(t, err)
		file := filepath.Join(t.TempDir(), router+".sh")
		must(t, os.WriteFile(file, []byte("set -e\n"+
			"for d in lan0 wan1 wan2 sync0; do ip link add $d type veth peer name p$d; ip link set p$d up; ip link set $d up; done\n"+
			"ip addr add 192.0.2."+router[1:]+"/24 dev sync0\n"+script+planState+"\n"), 0o644))
		got := netlab.Sh(t, "unshare -n sh "+file)
		if d := cmp.Diff(sameWords(want), sameWords(got)); d != "" {
			t.Errorf("%s as %s: -daemon +script\n%s", router, role, d)
		}
	}
}

// sameWords levels what nft shows in two ways, as a set was made with netlink or
// with its own words: slots in hex or in decimals, and where lines break.
func sameWords(s string) []string {
	s = strings.NewReplacer("type mark : verdict", "typeof numgen random mod 256 : verdict",
		"meta l4proto tcp iifname", "iifname", // nft adds it for the reset
	).Replace(s)
	s = slotInHex.ReplaceAllStringFunc(s, func(m string) string {
		n, err := strconv.ParseUint(m[2:10], 16, 32)
		if err != nil {
			return m
		}
		return fmt.Sprint(n) + m[10:]
	})
	return strings.Split(elementBreak.ReplaceAllString(s, ", "), "\n")
}

var (
	slotInHex    = regexp.MustCompile(`0x[0-9a-f]{8} : goto (?:up|learn|over)_`)
	elementBreak = regexp.MustCompile(`,\s+`)
)
