package soak

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// jumpingClock is the wall clock of a Go program on amd64: right at first, after
// 10 s of its life a hundred days ahead, after 16 s a year behind. The monotonic
// clock goes on. It takes the place of runtime/timeasm.go; what reads the kernel's
// clock, in assembly, gets another name.
const jumpingClock = `//go:build !faketime && (windows || (linux && amd64))

package runtime

import _ "unsafe"

func rightTime() (sec int64, nsec int32, mono int64)

//go:linkname time_now time.now
func time_now() (sec int64, nsec int32, mono int64) {
	sec, nsec, mono = rightTime()
	switch life := mono - runtimeInitTime; {
	case life > 16e9:
		sec -= 365 * 86400
	case life > 10e9:
		sec += 100 * 86400
	}
	return sec, nsec, mono
}
`

// TestRow16ClockJumps: the wall clock of the machine cannot be set by a test, so
// harouter is built with one of its own that jumps. Nothing happens.
func TestRow16ClockJumps(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Fatalf("the clock that jumps is written for amd64, not %s", runtime.GOARCH)
	}
	s := netlab.ForTest(t, netlab.Pair(netlab.PairOptions{WANOwn: true}))
	_, err := s.Serve("net")
	must(t, err)
	c, err := site.Install(s, site.Config)
	must(t, err)
	c.Binary = jumping(t)
	must(t, c.Up("r1", "r2"))
	began := time.Now()
	inSync := func(st ha.Status) bool {
		return st.VRRP.Master == "r1" && len(st.ConntrackSync.Peers) == 1 && st.ConntrackSync.Peers[0].State == ha.SyncSynced && len(st.Alarms) == 0
	}
	must(t, c.Wait("r1 in sync", "r1", 10*time.Second, inSync))
	client, err := c.Load("h1", netlab.StandardLoad(site.Server, site.LANAddress))
	must(t, err)
	c.Mark("jumps")
	changes, _, err := c.Calm(24*time.Second - time.Since(began))
	must(t, err)
	r, err := client.Stop()
	must(t, err)
	if changes > 0 {
		t.Errorf("%d role changes", changes)
	}
	if lost := r.LostSince("jumps"); lost > 0 || r.Survivors() != len(r.TCP) || r.FreshFailedSince("jumps") > 0 {
		t.Errorf("%d packets lost\n%v", lost, r)
	}
	// New flows, probes, words between the nodes, events: all goes on.
	for _, router := range []string{"r1", "r2"} {
		must(t, c.Wait(router+" as before", router, 3*time.Second, inSync))
	}
	_, err = c.Command("r1", "failover")
	must(t, err)
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	events, err := c.Command("r1", "events", "--json")
	must(t, err)
	if year := time.Now().AddDate(-1, 0, 0).Format(`"time":"2006-`); !strings.Contains(events, year) {
		t.Errorf("no event of the last year: the clock did not jump\n%s", events)
	}
}

// jumping builds harouter with that clock.
func jumping(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	said, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	root := strings.TrimSpace(string(said))
	clock, reads, list := filepath.Join(dir, "clock.go"), filepath.Join(dir, "clock_amd64.s"), filepath.Join(dir, "overlay.json")
	reading := filepath.Join(root, "src/runtime/time_linux_amd64.s")
	assembly, err := os.ReadFile(reading)
	must(t, err)
	text, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(root, "src/runtime/timeasm.go"): clock,
		reading: reads,
	}})
	must(t, err)
	must(t, os.WriteFile(list, text, 0o644))
	must(t, os.WriteFile(clock, []byte(jumpingClock), 0o644))
	must(t, os.WriteFile(reads, bytes.ReplaceAll(assembly, []byte("TEXT time·now<"), []byte("TEXT runtime·rightTime<")), 0o644))
	out := filepath.Join(dir, "harouter")
	build := exec.Command("go", "build", "-buildvcs=false", "-overlay", list, "-o", out, "harouter/cmd/harouter")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build with another clock: %v\n%s", err, said)
	}
	return out
}
