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
	}
	if err := k.turn(active); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("turn the takeover switch: %w", err)
	}
	return nil
}

// turn writes the switch, and the grace time if there is any left.
func (k *Kernel) turn(active bool) error {
	k.flip.FlushSet(activeSet)
	on := nftables.SetElement{Key: key(balancer.KeyProto, balancer.Element{})}
	var queued error
	if active {
		queued = k.flip.SetAddElements(activeSet, []nftables.SetElement{on})
	}
	if left := time.Until(k.graceUntil); left > 0 {
		k.flip.FlushSet(graceSet)
		on.Timeout = max(left.Round(graceTime/30), time.Millisecond)
		queued = errors.Join(queued, k.flip.SetAddElements(graceSet, []nftables.SetElement{on}))
	}
	return errors.Join(queued, commit(&k.flip))
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

// settle makes the switch agree with Activate, or with the plan if there never
// was one. Apply's own transaction leaves the switch alone, so that it cannot
// undo an Activate that comes while it works.
func (k *Kernel) settle(planned bool) error {
	k.switching.Lock()
	defer k.switching.Unlock()
	want := planned
	if k.active != nil {
		want = *k.active
	}
	on, err := k.flip.GetSetElements(activeSet)
	if err != nil {
		return fmt.Errorf("read the takeover switch: %w", err)
	}
	if (len(on) > 0) == want && !k.graceMissing() {
		return nil
	}
	if err := k.turn(want); err != nil {
		return fmt.Errorf("turn the takeover switch: %w", err)
	}
	return nil
}

// graceMissing tells that there should be a grace time and there is none: the
// table was made after Activate. The last moments are not worth it.
func (k *Kernel) graceMissing() bool {
	if time.Until(k.graceUntil) < graceTime/10 {
		return false
	}
	on, err := k.flip.GetSetElements(graceSet)
	return err == nil && len(on) == 0
}
