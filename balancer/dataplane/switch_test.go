package dataplane

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"harouter/test/netlab"
)

func switchedOn(t *testing.T) bool {
	t.Helper()
	return strings.Contains(netlab.Sh(t, "nft list set inet harouter active"), "elements")
}

// TestActivateFindsTheFormerTable: after a restart of the daemon the table is
// there already; a takeover must not wait for the first plan.
func TestActivateFindsTheFormerTable(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	c, in := twoUplinks()
	in.Active, in.Holding = false, false
	p := build(t, c, in)
	must(t, quietKernel(t).Apply(t.Context(), p))

	k := quietKernel(t)
	must(t, k.Activate(t.Context(), true, true))
	if !switchedOn(t) {
		t.Error("Activate did not find the table of a former run")
	}
	// And when the table is lost, switch and grace come back with it.
	netlab.Sh(t, "nft delete table inet harouter")
	must(t, k.Activate(t.Context(), true, true))
	must(t, k.Apply(t.Context(), p))
	if !switchedOn(t) {
		t.Error("the plan's word went over Activate's")
	}
	if s := netlab.Sh(t, "nft list set inet harouter grace"); !strings.Contains(s, "timeout") {
		t.Errorf("the grace time was lost with the table:\n%s", s)
	}
	netlab.Sh(t, "nft flush set inet harouter active")
	must(t, k.Apply(t.Context(), p))
	if !switchedOn(t) {
		t.Error("Apply did not repair the switch")
	}
}

// TestApplyNeverUndoesActivate: whatever plans are applied meanwhile, from the
// return of Activate on the switch is as it said.
func TestApplyNeverUndoesActivate(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	c, in := twoUplinks()
	k := quietKernel(t)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var applies atomic.Int64
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			n := int(applies.Add(1))
			in.Active, in.Holding = n%2 == 0, n%2 == 0
			c.Uplinks[0].Weight = 1 + n%5
			if err := k.Apply(t.Context(), build(t, c, in)); err != nil {
				t.Errorf("apply %d: %v", n, err)
				return
			}
		}
	})
	var worst time.Duration
	for i := 0; i < 150 || applies.Load() < 30; i++ {
		want := i%3 == 0
		start := time.Now()
		must(t, k.Activate(t.Context(), want, want))
		worst = max(worst, time.Since(start))
		k.switching.Lock()
		on, err := k.flip.GetSetElements(activeSet)
		k.switching.Unlock()
		if err != nil || (len(on) > 0) != want {
			t.Errorf("turn %d: %d elements, want on %v; %v", i, len(on), want, err)
		}
	}
	close(stop)
	wg.Wait()
	t.Logf("%d applies meanwhile, Activate took %v at worst", applies.Load(), worst)
	if worst > 100*time.Millisecond {
		t.Errorf("Activate took %v", worst)
	}
}
