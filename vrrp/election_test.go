package vrrp

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"harouter/test/shrink"
)

var keep = flag.Bool("keep", false, "write what fails, shortened, to testdata/election")

// TestElection plays thousands of elections that suffer all that a script can
// say, see watch for what may never be. One that fails is shortened and printed,
// and with -keep written where TestElectionScripts replays it. With
// HAROUTER_SOAK=5m other seeds, for so long; HAROUTER_SEEDS=FROM-TO those.
func TestElection(t *testing.T) {
	shrink.Seeds(t, "HAROUTER_SEEDS", 5000, 5, func(seed uint64) func() {
		lines := tale(seed)
		if len(elect(lines)) == 0 {
			return nil
		}
		return func() { tell(t, seed, lines) }
	})
}

// elect plays a script; one that cannot be read is not wrong.
func elect(lines []string) []string {
	sc, err := parseScript(lines)
	if err != nil {
		return nil
	}
	return newWorld(sc).play()
}

// tell shortens what failed and shows it.
func tell(t *testing.T, seed uint64, lines []string) {
	kind := func(wrong []string) string { // the same kind of failure, not any
		for _, w := range []string{"both master", "no master", "is master, and", "masters (", "flaps", "becomes master", "although it hears", "spins"} {
			if len(wrong) > 0 && strings.Contains(wrong[0], w) {
				return w
			}
		}
		return ""
	}
	want := kind(elect(lines))
	lines = shrink.Lines(lines, func(l []string) bool { wrong := elect(l); return len(wrong) > 0 && kind(wrong) == want })
	sc, _ := parseScript(lines)
	sc.verbose = true
	w := newWorld(sc)
	wrong := strings.Join(w.play(), "\n")
	t.Errorf("seed %d: %s\n%s\n\n%s", seed, wrong, strings.Join(lines, "\n"), strings.Join(w.log, "\n"))
	if *keep {
		text := fmt.Sprintf("# Seed %d: %s\n%s\n", seed, wrong, strings.Join(lines, "\n"))
		if err := os.WriteFile(filepath.Join("testdata/election", strconv.FormatUint(seed, 10)+".txt"), []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// TestElectionScripts replays what failed once, and what is good to see.
func TestElectionScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/election/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts: %v %v", files, err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			sc, err := parseScript(strings.Split(string(text), "\n"))
			if err != nil {
				t.Fatal(err)
			}
			sc.verbose = true
			w := newWorld(sc)
			if wrong := w.play(); len(wrong) > 0 {
				t.Errorf("%s\n%s", strings.Join(wrong, "\n"), strings.Join(w.log, "\n"))
			}
		})
	}
}

// teller writes the script of a seed.
type teller struct {
	r     *rand.Rand
	lines []string
	names []string
	a     time.Duration
	fixed bool // version 2, whose interval cannot change one node after the other
	at    time.Duration
}

func (t *teller) say(format string, a ...any) { t.lines = append(t.lines, fmt.Sprintf(format, a...)) }

// some is a time around d, from almost nothing to twice as much.
func (t *teller) some(d time.Duration) time.Duration {
	return time.Duration(t.r.Int64N(int64(2*d)/1000+1)) * time.Microsecond
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// tale is what a seed lets happen.
func tale(seed uint64) []string {
	t := &teller{r: rand.New(rand.NewPCG(seed, 5))}
	version := Version3
	t.a = pick[time.Duration](t.r, 10, 30, 100, 100, 100, 500, 1000) * time.Millisecond
	if t.r.IntN(8) == 0 {
		t.fixed = true
		version, t.a = Version2, pick[time.Duration](t.r, 1, 1, 2)*time.Second
	}
	keeps := t.r.IntN(4) == 0
	delay := pick(t.r, 0, 5*t.a, 20*t.a, time.Second)
	if keeps {
		t.say("election %d %v keep", version, t.a)
	} else {
		t.say("election %d %v preempt %v", version, t.a, delay)
	}
	strangers := t.r.IntN(4) == 0
	for i := range 2 + t.r.IntN(4) {
		priority, drift := pick(t.r, 1, 50, 100, 100, 150, 200, 254), t.r.IntN(20001)-10000
		if strangers && t.r.IntN(2) == 0 {
			interval := t.a
			if version == Version3 && t.r.IntN(3) == 0 {
				interval = pick[time.Duration](t.r, 20, 100, 300) * time.Millisecond
			}
			t.names = append(t.names, fmt.Sprintf("x%d", i+1))
			t.say("foreign %s %d %+d %v %s", t.names[i], priority, drift, interval, pick(t.r, "preempt", "preempt", "keep"))
			continue
		}
		t.names = append(t.names, fmt.Sprintf("r%d", i+1))
		t.say("node %s %d %+d", t.names[i], priority, drift)
	}
	for _, name := range t.names {
		if t.r.IntN(5) > 0 {
			t.say("%v boot %s", t.at, name)
		}
		t.at += t.some(t.a * pick[time.Duration](t.r, 0, 1, 4))
	}
	for range 5 + t.r.IntN(20) {
		t.at += t.some(t.a * pick[time.Duration](t.r, 1, 1, 1, 3, 3, 3, 10, 30))
		t.happening()
	}
	if t.r.IntN(4) > 0 {
		t.say("%v mend", t.at)
		for _, name := range t.names {
			t.say("%v boot %s", t.at+t.some(t.a), name)
		}
	}
	n := time.Duration(len(t.names))
	t.say("%v end", t.at+50*t.a+n*(delay+6*time.Second/5+6*t.a))
	return t.lines
}

func (t *teller) happening() {
	name := t.names[t.r.IntN(len(t.names))]
	other := t.names[t.r.IntN(len(t.names))]
	for other == name {
		other = t.names[t.r.IntN(len(t.names))]
	}
	oneWay := name + ">" + other
	switch t.r.IntN(14) {
	case 0:
		t.say("%v crash %s", t.at, name)
	case 1:
		t.say("%v stop %s", t.at, name)
	case 2, 3:
		t.say("%v boot %s", t.at, name)
	case 4, 5:
		t.say("%v sleep %s %v", t.at, name, t.some(t.a*pick[time.Duration](t.r, 1, 4, 10)))
	case 6:
		t.say("%v priority %s %d", t.at, name, pick(t.r, 1, 99, 100, 149, 200))
	case 7:
		t.say("%v cut %s", t.at, oneWay)
		if t.r.IntN(3) > 0 {
			t.say("%v cut %s>%s", t.at, other, name)
		}
	case 8:
		t.say("%v mend", t.at)
	case 9:
		for _, o := range t.names {
			if o != name {
				t.say("%v cut %s>%s", t.at, name, o)
				t.say("%v cut %s>%s", t.at, o, name)
			}
		}
	case 10, 11:
		t.say("%v lose %s %d", t.at, oneWay, 1+t.r.IntN(5))
	case 12:
		t.say("%v delay %s %d %v", t.at, oneWay, 1+t.r.IntN(5), t.some(3*t.a))
	case 13:
		if t.r.IntN(3) == 0 && !t.fixed {
			a := pick[time.Duration](t.r, 10, 50, 100, 200) * time.Millisecond
			for _, o := range t.names {
				if o[0] == 'r' {
					t.at += t.some(5 * time.Millisecond)
					t.say("%v interval %s %v", t.at, o, a)
				}
			}
			return
		}
		t.say("%v copy %s %v", t.at, oneWay, t.some(5*t.a))
	}
}
