package guard

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSecond(t *testing.T) {
	for _, c := range []struct {
		name string
		pid  int
		tids []int
		want int
		ok   bool
	}{
		{"alone", 7, []int{7}, 0, false},
		{"the next", 7, []int{7, 9, 8, 12}, 8, true},
		{"ids began anew for the third", 32767, []int{32767, 32768, 300, 301}, 32768, true},
		{"ids began anew for the second", 32768, []int{32768, 300, 301}, 300, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, ok := second(c.pid, c.tids); got != c.want || ok != c.ok {
				t.Errorf("%d, %t, want %d, %t", got, ok, c.want, c.ok)
			}
		})
	}
}

// relax is the asker's part of TestRelax: what the threads are after Hurry and
// Relax, after one was started by the watchman, and after Relax again.
func relax() {
	tell := func(what string, err error) {
		counts := map[string]int{}
		err = errors.Join(err, eachThread(func(tid int) error {
			attr, err := unix.SchedGetAttr(tid, 0)
			slack, readErr := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", tid))
			if err = errors.Join(err, readErr); err == nil && attr.Policy != unix.SCHED_RR {
				counts[fmt.Sprintf("policy %d nice %d slack %s", attr.Policy, attr.Nice, strings.TrimSpace(string(slack)))]++
			}
			return err
		}))
		fmt.Println(what, counts, err)
	}
	err := errors.Join(Nice(-20), Relax(0))
	tell("calm", err)
	tell("hurried", errors.Join(Hurry(10), Relax(10)))
	w, err := watchman()
	others := 0
	err = errors.Join(err, eachThread(func(tid int) error {
		if tid == w || others > 0 {
			return nil
		}
		others++
		return errors.Join(unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: -20}, 0), setSlack(tid, relaxedSlack))
	}))
	tell("inherited", err)
	tell("put right", Relax(10))
}

// TestRelax: one thread is late, and what it starts is put right.
func TestRelax(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(exe, "as-relaxed").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		t.Log(line)
		relaxed := strings.Contains(line, "policy 0 nice -20 slack 2000000:1")
		if want := i != 2; relaxed != want || !strings.HasSuffix(line, "<nil>") {
			t.Errorf("one relaxed thread: %t, want %t: %s", relaxed, want, line)
		}
		if i > 0 && strings.Contains(line, "slack 50000") {
			t.Errorf("a thread is not hurried: %s", line)
		}
	}
}

// hardened is the asker's part of TestHardened.
func hardened() {
	lacking, policies := harden(), map[uint32]int{}
	err := eachThread(func(tid int) error {
		attr, err := unix.SchedGetAttr(tid, 0)
		if err == nil {
			policies[attr.Policy]++
		}
		return err
	})
	fmt.Println(lacking, err, policies[unix.SCHED_NORMAL], policies[unix.SCHED_RR] > spares)
}

// TestHardened: all threads but the watchman have real-time priority, and there
// are enough of them.
func TestHardened(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(exe, "as-hardened").CombinedOutput()
	if got, want := strings.TrimSpace(string(out)), "[] <nil> 1 true"; err != nil || got != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}
