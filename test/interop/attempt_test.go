package interop

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

var (
	// crowd is held by each trial, and by one that is repeated for it alone.
	crowd sync.RWMutex
	// seats are how many trials with short times run at once: with adverts each
	// 100 ms a daemon that gets no processor for a third of a second loses its
	// role, and rightly. Version 2 has seconds: those wait nearly all the time.
	seats   = make(chan struct{}, 8)
	repeats int // under crowd
)

// mostRepeats: more failures than that are not the machine's.
const mostRepeats = 4

// twice runs a trial, and if it fails once more with nothing beside it: what
// fails then is no matter of a busy machine.
func twice(t *testing.T, s settings, run func(t testing.TB)) {
	t.Helper()
	first := &attempt{TB: t}
	short := s.advertise < time.Second
	if short {
		seats <- struct{}{}
	}
	crowd.RLock()
	first.run(run)
	crowd.RUnlock()
	if short {
		<-seats
	}
	if !first.failed {
		return
	}
	crowd.Lock()
	defer crowd.Unlock()
	if repeats++; repeats > mostRepeats {
		t.Fatalf("failed, as %d before it: %s", mostRepeats, first.reason)
	}
	t.Logf("failed among others, and is repeated alone: %s", first.reason)
	second := &attempt{TB: t}
	second.run(run)
	if second.failed {
		t.Errorf("failed alone as well: %s", second.reason)
	}
}

// attempt is a test that may fail without harm.
type attempt struct {
	testing.TB
	failed   bool
	reason   string
	cleanups []func()
}

// run does it on a goroutine of its own, which Fatal ends, and cleans up.
func (a *attempt) run(do func(t testing.TB)) {
	a.apart(func() { do(a) })
	for i := len(a.cleanups) - 1; i >= 0; i-- {
		a.apart(a.cleanups[i])
	}
}

func (a *attempt) apart(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	<-done
}

func (a *attempt) Cleanup(do func()) { a.cleanups = append(a.cleanups, do) }
func (a *attempt) Failed() bool      { return a.failed }
func (a *attempt) Fail()             { a.failed = true }

func (a *attempt) FailNow() {
	a.failed = true
	runtime.Goexit()
}

func (a *attempt) Error(args ...any) {
	a.Helper()
	a.Errorf("%s", fmt.Sprint(args...))
}

func (a *attempt) Errorf(format string, args ...any) {
	a.Helper()
	text := fmt.Sprintf(format, args...)
	a.Log(text)
	if a.failed {
		a.reason += "; "
	}
	a.failed, a.reason = true, a.reason+text
}

func (a *attempt) Fatal(args ...any) {
	a.Helper()
	a.Errorf("%s", fmt.Sprint(args...))
	runtime.Goexit()
}

func (a *attempt) Fatalf(format string, args ...any) {
	a.Helper()
	a.Errorf(format, args...)
	runtime.Goexit()
}
