package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// Races tells who may run, by the plan that was applied last, and whether this node
// gives flows to uplinks. It waits for no plan that is being applied.
func (k *Kernel) Races() (sets []balancer.RaceSet, active bool) {
	if races := k.races.Load(); races != nil {
		sets = *races
	}
	return sets, k.Active()
}

// Wanted reads the destinations for which the kernel has no winner of a race,
// and tells who may run. There are none while this node gives no flows to
// uplinks.
func (k *Kernel) Wanted() ([]balancer.RaceSet, []balancer.Wanted, error) {
	k.applying.Lock()
	defer k.applying.Unlock()
	if k.plan == nil || !k.Active() {
		return nil, nil, nil
	}
	var out []balancer.Wanted
	for _, r := range k.plan.Races {
		elements, _, err := k.elementsOf(r.Set)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range elements {
			if a, port := takeAddr(e.key); len(port) >= 2 {
				out = append(out, balancer.Wanted{Policy: r.Policy, To: netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))})
			}
		}
	}
	return k.plan.Races, out, nil
}

// Won adds the winners of races, without a look at what is there: nothing was, or
// it would not have been wanted. What a set has no room for is not remembered: it
// is wanted again.
func (k *Kernel) Won(places []balancer.Place) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	if k.plan == nil {
		return nil
	}
	for _, l := range k.plan.Learned {
		var add []nftables.SetElement
		for _, p := range places {
			if key := placeKey(p, l.Of); p.Policy == l.Policy && p.Uplink == l.Uplink && key != nil && p.Left > 0 {
				add = append(add, nftables.SetElement{Key: key, Timeout: min(p.Left, l.Lasts)})
			}
		}
		d := diff{conn: k.nft}
		if err := d.elements(learnedElements(l), add, k.nft.SetAddElements); err != nil {
			return errors.Join(err, reopen(&k.nft))
		}
		if d.steps == 0 {
			continue
		}
		if err := commit(&k.nft); err != nil && !errors.Is(err, unix.ENFILE) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remember who won races in %s: %w", l.Name, err)
		}
	}
	return nil
}
