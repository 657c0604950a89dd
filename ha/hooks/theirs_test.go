package hooks

import (
	"net/netip"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"harouter/balancer"
)

// notify is a script as people have them for Net-ISP-Balance: it takes its 16
// arguments by position, counts with some of them, and mails.
const notify = `#!/bin/bash
STATE=$1 NAME=$2 CHECKIP=$3 DEVICE=$4 MAIL=$5
REPLIED=$6 WAITING=$7 TIMEOUT=$8 LATE=$9
RCVD=${10} CONSWAIT=${11} CONSMISS=${12} RTT=${13} SRC=${14} PREV=${15} WHEN=${16}
[ $# -eq 16 ] || exit 2
cat >>@FILE <<EOM
To: $MAIL
Subject: $NAME is $STATE (was $PREV) on $DEVICE
$CHECKIP from $SRC: $((REPLIED + WAITING + TIMEOUT)) probes, $((TIMEOUT + LATE)) lost, $((RTT / 1000)) ms
in a row $((RCVD + 0)) $((CONSWAIT + 0)) $((CONSMISS + 0)) at $(date -u -d @$WHEN +%Y)
EOM
`

// plainLines has no first line that names a shell, as it was not needed there.
const plainLines = `case "$1" in
	up) echo "$2 on $((${13} / 1000)) ms" >/dev/null ;;
esac
shift 12
echo "plain $# $1 $2 $3 $(($4 > 1700000000))" >>@FILE
`

// TestTheirScripts: what stands in up.d, down.d and long_down.d there does here
// what it did, from a copy of the file.
func TestTheirScripts(t *testing.T) {
	t.Parallel()
	g := newRig(t, time.Minute)
	for _, dir := range []string{"up.d", "down.d", "long_down.d"} {
		g.script(dir+"/10-notify", strings.ReplaceAll(notify, "@FILE", g.dir+"/out"), 0o755)
		g.script(dir+"/20-plain", strings.ReplaceAll(plainLines, "@FILE", g.dir+"/out"), 0o755)
		g.script(dir+"/20-plain~", "echo the editor's >>"+g.dir+"/out\n", 0o755)
	}
	for range 10 {
		g.Round(balancer.Round{Uplink: "cable", Good: true, RTT: 12 * time.Millisecond})
	}
	g.Source("cable", netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("203.0.113.1"))
	g.start()
	told := func(state, previous string, n int) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); strings.Count(g.out(), "plain ") < n; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%s: the scripts said %q", state, g.out())
			}
		}
		got := g.out()[max(0, strings.LastIndex(g.out(), "To: ")):]
		want := regexp.MustCompile(`^To: a@example\.org,b@example\.org
Subject: cable is ` + state + ` \(was ` + previous + `\) on wan1
198\.51\.100\.1 from 203\.0\.113\.10: 1\d probes, \d lost, 12 ms
in a row \d+ \d+ \d+ at 2\d\d\d
plain 4 12000 203\.0\.113\.10 ` + previous + ` 1
$`)
		if !want.MatchString(got) || strings.Count(g.out(), "To: ") != n {
			t.Errorf("%s: the scripts said\n%s", state, got)
		}
	}
	g.Uplink("cable", balancer.Up, "")
	told("up", "unknown", 1)
	for range 3 {
		g.Round(balancer.Round{Uplink: "cable"})
	}
	g.Uplink("cable", balancer.Down, "")
	told("down", "up", 2)
	g.mu.Lock()
	g.queue.longAt[subject{"cable"}] = time.Now() // two minutes later
	g.mu.Unlock()
	g.wake <- struct{}{}
	told("long_down", "down", 3)
	g.Uplink("cable", balancer.Up, "")
	told("up", "long_down", 4)
	g.stop()
	if len(g.alarms) > 0 {
		t.Errorf("an alarm: %s", <-g.alarms)
	}
}
