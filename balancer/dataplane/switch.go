package dataplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// graceTime is how long after a takeover TCP in mid-stream is dropped
// (DESIGN.md §6).
const graceTime = 3 * time.Second

var (
	activeSet = &nftables.Set{Table: ourTable, Name: balancer.SetActive, KeyType: nftables.TypeNFProto}
	graceSet  = &nftables.Set{Table: ourTable, Name: balancer.SetGrace, KeyType: nftables.TypeNFProto, HasTimeout: true}
)

// Activate turns the takeover switch: whether new flows may go to uplinks. With
// grace, TCP in mid-stream without an entry is dropped for three seconds. It is
// one small transaction and waits for no Apply. Without a table it only
// remembers: the next Apply brings the switch along.
func (k *Kernel) Activate(ctx context.Context, active, grace bool) error {
	k.switching.Lock()
	defer k.switching.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("turn the takeover switch: %w", err)
	}
	k.active = &active
	k.graceUntil = time.Time{}
	if grace {
		k.graceUntil = time.Now().Add(graceTime)
		k.flip.FlushSet(endedSet) // of what was ended before, another node may have had the word
	}
	if err := k.turn(active, false); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("turn the takeover switch: %w", err)
	}
	return nil
}

// turn writes the switch, and the grace time if there is any left; flush: what
// is there of it goes anyway.
func (k *Kernel) turn(active, flush bool) error {
	k.flip.FlushSet(activeSet)
	on := nftables.SetElement{Key: key(balancer.KeyProto, balancer.Element{})}
	var queued error
	if active {
		queued = k.flip.SetAddElements(activeSet, []nftables.SetElement{on})
	}
	left := time.Until(k.graceUntil)
	if left > 0 || flush {
		k.flip.FlushSet(graceSet)
	}
	if left > 0 {
		on.Timeout = graceTimeout(left)
		queued = errors.Join(queued, k.flip.SetAddElements(graceSet, []nftables.SetElement{on}))
	}
	return errors.Join(queued, commit(&k.flip))
}

// graceTimeout is what is left in the kernel's grain.
func graceTimeout(left time.Duration) time.Duration {
	return max(left.Round(graceTime/30), time.Millisecond)
}

// wanted is how the switch should be, given how the plan has it.
func (k *Kernel) wanted(planned bool) bool {
	k.switching.Lock()
	defer k.switching.Unlock()
	if k.active != nil {
		return *k.active
	}
	return planned
}

// settle tells whether the switch disagrees with Activate, or with the plan if
// there never was one, and if write mends it. Apply's own transaction leaves
// the switch alone, so that it cannot undo an Activate that comes while it works.
func (k *Kernel) settle(planned, write bool) (wrong bool, err error) {
	k.switching.Lock()
	defer k.switching.Unlock()
	want := planned
	if k.active != nil {
		want = *k.active
	}
	on, err := k.flip.GetSetElements(activeSet)
	if err != nil {
		return false, fmt.Errorf("read the takeover switch: %w", err)
	}
	grace := k.graceWrong()
	if (len(on) > 0) == want && !grace {
		return false, nil
	}
	if !write {
		return true, nil
	}
	if err := k.turn(want, grace); err != nil {
		return true, fmt.Errorf("turn the takeover switch: %w", err)
	}
	return true, nil
}

// graceWrong tells that there should be a grace time and there is none, since
// the table was made after Activate (the last moments are not worth it), or
// that there is one which does not end as ours do.
func (k *Kernel) graceWrong() bool {
	on, err := k.flip.GetSetElements(graceSet)
	if err != nil {
		return false
	}
	for _, e := range on {
		if e.Timeout == 0 || e.Expires > graceTime {
			return true
		}
	}
	return len(on) == 0 && time.Until(k.graceUntil) > graceTime/10
}

// graceLeft is what remains of the grace time.
func (k *Kernel) graceLeft() time.Duration {
	k.switching.Lock()
	defer k.switching.Unlock()
	return time.Until(k.graceUntil)
}
