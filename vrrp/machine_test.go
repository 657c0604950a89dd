package vrrp

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the expected actions in testdata")

// TestMachineScenarios plays each script in testdata/machine: a line is an
// input, the lines behind it that begin with ">" are what the machine does,
// with the time since the start. -update rewrites them; read the difference.
func TestMachineScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/machine/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatalf("scenarios: %v %v", files, err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(script))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(script), got); d != "" && !*update {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// player runs one script.
type player struct {
	t     *testing.T
	m     *Machine
	start time.Time
	now   time.Time
	out   strings.Builder

	version  Version
	interval time.Duration
}

func play(t *testing.T, script string) string {
	t0 := time.Unix(1000, 0)
	p := &player{t: t, start: t0, now: t0, interval: 100 * time.Millisecond}
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, ">") {
			continue
		}
		p.out.WriteString(line + "\n")
		if f := strings.Fields(line); len(f) > 0 && !strings.HasPrefix(line, "#") {
			p.line(f)
		}
	}
	return p.out.String()
}

func (p *player) handle(ev Event) {
	for _, a := range p.m.Handle(ev, p.now) {
		fmt.Fprintf(&p.out, "> %v %s\n", p.now.Sub(p.start), show(a))
	}
}

func show(a Action) string {
	switch a := a.(type) {
	case Become:
		return fmt.Sprintf("become %s: %s", a.State, a.Reason)
	case Advertise:
		return fmt.Sprintf("advertise %d every %v", a.Priority, a.Interval)
	case Silence:
		return "silence"
	case Farewell:
		return "farewell"
	case Reannounce:
		return "reannounce: " + a.Reason
	case Claim:
		return "claim from " + a.Master
	}
	return fmt.Sprintf("unknown action %T", a)
}

// wait lets time pass, with a tick at each deadline, and optionally a repeated
// advert.
func (p *player) wait(d time.Duration, every time.Duration, advert Event) {
	end := p.now.Add(d)
	var next time.Time
	if advert != nil {
		next = p.now.Add(every)
	}
	for {
		at := end
		if dl := p.m.Deadline(); !dl.IsZero() && dl.Before(at) {
			at = dl
		}
		if advert != nil && !next.After(at) {
			p.now = next
			next = next.Add(every)
			p.handle(advert)
			if p.now.Equal(end) {
				return
			}
			continue
		}
		p.now = at
		p.handle(Tick{})
		if at.Equal(end) {
			return
		}
	}
}

func (p *player) line(f []string) {
	arg := func(i int, def string) string {
		if i < len(f) {
			return f[i]
		}
		return def
	}
	num := func(i int) uint8 {
		n, err := strconv.ParseUint(arg(i, ""), 10, 8)
		if err != nil {
			p.t.Fatalf("%v: %v", f, err)
		}
		return uint8(n)
	}
	dur := func(i int, def string) time.Duration {
		d, err := time.ParseDuration(arg(i, def))
		if err != nil {
			p.t.Fatalf("%v: %v", f, err)
		}
		return d
	}
	heard := func(i int) Heard {
		rank := netip.MustParseAddr("192.0.2." + strings.TrimLeft(arg(i, ""), "rx"))
		return Heard{Speaker: arg(i, ""), Rank: rank, Priority: num(i + 1), Interval: p.interval, Ours: arg(i, "")[0] == 'r'}
	}
	switch f[0] {
	case "node": // node r2 150 [preempt 10s]
		p.m = NewMachine(MachineConfig{
			Version: p.version, Priority: num(2), Interval: p.interval, Rank: netip.MustParseAddr("192.0.2." + f[1][1:]),
			Preempt: arg(3, "") == "preempt", PreemptDelay: dur(4, "0s"),
		})
	case "speak": // speak 2 1s: those that follow do
		p.version, p.interval = Version(num(1)), dur(2, "")
	case "start":
		p.handle(Start{})
	case "stop":
		p.handle(Stop{Reason: strings.Join(f[1:], " ")})
	case "heard": // heard r1 200 [1s [against 7]]
		h := heard(1)
		h.Interval = dur(3, p.interval.String())
		if arg(4, "") == "against" {
			h.Against = netip.MustParseAddr("192.0.2." + f[5])
		}
		p.handle(h)
	case "wait":
		p.wait(dur(1, ""), 0, nil)
	case "hearing": // hearing r1 200 for 5s, or hearing r1 200 and r2 150 for 5s
		if f[3] == "and" {
			for end := p.now.Add(dur(7, "")); p.now.Before(end); {
				p.wait(p.interval/2, p.interval/2, heard(1))
				p.wait(p.interval/2, p.interval/2, heard(4))
			}
			return
		}
		p.wait(dur(4, ""), p.interval, heard(1))
	case "master":
		fmt.Fprintf(&p.out, "> %v follows %q\n", p.now.Sub(p.start), p.m.Master())
	case "stall": // time passes and nothing runs
		p.now = p.now.Add(dur(1, ""))
	case "tick":
		p.handle(Tick{})
	case "priority":
		p.handle(SetPriority{Priority: num(1)})
	case "configure": // configure 1s [preempt 10s]
		p.handle(Configure{Version: p.version, Interval: dur(1, ""), Rank: p.m.cfg.Rank, Preempt: arg(2, "") == "preempt", PreemptDelay: dur(3, "0s")})
	case "hold":
		p.handle(Hold{On: f[1] == "on"})
	case "promote": // promote r1 quiet 2s
		p.handle(Promote{From: f[1], Quiet: arg(2, "") == "quiet", For: dur(3, "0s"), Reason: "word of " + f[1]})
	case "confirm":
		p.handle(Confirm{})
	case "demote":
		p.handle(Demote{Reason: "handed over", Patience: dur(1, "0s")}) // demote [500ms]
	case "yield":
		p.handle(Yield{To: f[1], Until: p.now.Add(dur(2, ""))})
	case "insist":
		p.handle(Insist{})
	case "after": // after you: a better one goes first for 100ms
		p.handle(Wait{Until: p.now.Add(dur(1, ""))})
	case "lost": // lost r1
		p.handle(Lost{Speaker: f[1], Reason: f[1] + " is dead"})
	case "overslept":
		p.handle(Overslept{})
	default:
		p.t.Fatalf("unknown line: %v", f)
	}
}
