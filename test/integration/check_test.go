package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// TestCheck: the role goes away from a router whose check fails or hangs, without
// a lost packet and whatever preempt_delay says, and comes back by the usual rules;
// where it fails on both the priorities decide.
func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mark := func(name string, on bool) {
		t.Helper()
		if on {
			must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
			return
		}
		must(t, os.Remove(filepath.Join(dir, name)))
	}
	script := fmt.Sprintf(`#!/bin/sh
case "$(ip -o -4 address)" in
*192.0.2.1/*) me=r1;;
*) me=r2;;
esac
if [ -e %[1]s/$me.hangs ]; then sleep 600; fi
[ -e %[1]s/$me ] || { echo "$me is not fit" >&2; exit 3; }
`, dir)
	fit := filepath.Join(dir, "fit")
	must(t, os.WriteFile(fit, []byte(script), 0o755))
	mark("r1", true)
	mark("r2", true)
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Replace(site.Config, "preempt_delay: 2s",
		"preempt_delay: 500ms, check: {command: ["+fit+"], interval: 100ms, timeout: 300ms, rise: 2, fall: 3}"))
	must(t, c.Up("r1", "r2"))
	client := load(t, c)
	moved := func(what, to string) {
		t.Helper()
		if err := c.WaitHolder(site.LANAddress, to, 6*time.Second); err != nil {
			t.Fatalf("%s: %v\nr1:\n%s\nr2:\n%s", what, err, c.Log("r1"), c.Log("r2"))
		}
		must(t, c.Wait(what, to, 3*time.Second, func(s ha.Status) bool { return s.Role == ha.RoleMaster }))
	}
	unfit := func(router, why string) {
		t.Helper()
		for _, asked := range []string{"r1", "r2"} {
			must(t, c.Wait(router+" is unfit: "+why, asked, 3*time.Second, func(s ha.Status) bool {
				return s.Nodes[strings.IndexByte("12", router[1])].Unfit == why
			}))
		}
	}
	began := time.Now()

	c.Mark("vanishes")
	mark("r1", false)
	moved("the file of r1 is gone", "r2")
	unfit("r1", "exit code 3: r1 is not fit")
	mark("r1", true)
	c.Mark("returns")
	moved("the file of r1 is back", "r1")

	c.Mark("hangs")
	mark("r1.hangs", true)
	moved("the check hangs on r1", "r2")
	unfit("r1", "no end within 300ms")
	c.Mark("both")
	mark("r2", false)
	moved("both fail", "r1")
	unfit("r2", "exit code 3: r2 is not fit")
	out, err := c.Command("r2", "status")
	if err != nil || strings.Count(out, "check fails") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("all moves took %v", time.Since(began).Round(10*time.Millisecond))
	r := report(t, client)
	for _, mark := range []string{"vanishes", "returns", "hangs", "both"} {
		quietly(t, mark+": silence seen by the host", r, r.PingGapSince(mark), 50*time.Millisecond+noise, "none")
	}
	if n := r.LostSince("vanishes"); n > 0 && r.Lag < 20*time.Millisecond {
		t.Errorf("%d packets were lost", n)
	}
	if n := r.Survivors(); n != 8 {
		t.Errorf("%d of 8 connections survived", n)
	}
	if log := c.Log("r2"); strings.Count(log, "handed over by r1: the check of r1 fails") != 2 {
		t.Errorf("r1 did not hand over by itself, or does not say why:\n%s", log)
	}
}
