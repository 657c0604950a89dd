package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// Place is what a policy with learned persistence remembers: that this source,
// this destination, or both together, belong on an uplink.
type Place struct {
	Policy, Uplink      string
	Source, Destination netip.Addr    // zero where the policy does not look at it
	Left                time.Duration // until it is forgotten
}

// Learned reads all that the kernel has learned under the plan that was applied
// last.
func (k *Kernel) Learned() ([]Place, error) {
	k.applying.Lock()
	defer k.applying.Unlock()
	if k.plan == nil {
		return nil, nil
	}
	var out []Place
	for _, l := range k.plan.Learned {
		elements, err := k.nft.GetSetElements(&nftables.Set{Table: ourTable, Name: l.Name, KeyType: learnedType(l.Of)})
		if errors.Is(err, unix.ENOENT) { // somebody took it away; the next look puts it back
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the set %s: %w", l.Name, err)
		}
		for _, e := range elements {
			p := Place{Policy: l.Policy, Uplink: l.Uplink, Left: e.Expires}
			key := e.Key
			if l.Of != balancer.ByDestination {
				p.Source, key = takeAddr(key)
			}
			if l.Of != balancer.BySource {
				p.Destination, _ = takeAddr(key)
			}
			if p.Source.IsValid() || p.Destination.IsValid() {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

// Learn adds what another node has learned. Places of policies and uplinks that
// the plan does not have, or that have other keys, are left out; so is what is
// known already, whose time-out stays.
func (k *Kernel) Learn(places []Place) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	if k.plan == nil {
		return nil
	}
	var failed error
	for _, l := range k.plan.Learned {
		set := &nftables.Set{Table: ourTable, Name: l.Name, KeyType: learnedType(l.Of), HasTimeout: true}
		var add []nftables.SetElement
		for _, p := range places {
			key := placeKey(p, l.Of)
			if p.Policy == l.Policy && p.Uplink == l.Uplink && key != nil && p.Left > 0 {
				add = append(add, nftables.SetElement{Key: key, Timeout: max(min(p.Left, l.Lasts), time.Millisecond)})
			}
		}
		d := diff{conn: k.nft}
		if err := d.elements(set, add, k.nft.SetAddElements); err != nil {
			return errors.Join(err, reopen(&k.nft))
		}
		if d.steps > 0 {
			if err := commit(&k.nft); err != nil {
				failed = errors.Join(failed, fmt.Errorf("add to the set %s: %w", l.Name, err))
			}
		}
	}
	return failed
}

func learnedType(of balancer.PersistenceKey) nftables.SetDatatype {
	k := balancer.KeyAddr4
	if of == balancer.BySourceDestination {
		k = balancer.KeyPair
	}
	typ, _ := keyType(k)
	return typ
}

func takeAddr(b []byte) (netip.Addr, []byte) {
	if len(b) < 4 {
		return netip.Addr{}, nil
	}
	a, _ := netip.AddrFromSlice(b[:4])
	return a, b[4:]
}

// placeKey is nil for a place that is none of the kind.
func placeKey(p Place, of balancer.PersistenceKey) []byte {
	var key []byte
	for _, a := range []struct {
		addr netip.Addr
		use  bool
	}{{p.Source, of != balancer.ByDestination}, {p.Destination, of != balancer.BySource}} {
		if a.use != a.addr.IsValid() || a.use && !a.addr.Is4() {
			return nil
		}
		key = append(key, a.addr.AsSlice()...)
	}
	return key
}
