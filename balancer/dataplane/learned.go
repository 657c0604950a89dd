package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// Learned reads all that the kernel has learned under the plan that was applied
// last.
func (k *Kernel) Learned() ([]balancer.Place, error) {
	k.applying.Lock()
	defer k.applying.Unlock()
	if k.plan == nil {
		return nil, nil
	}
	var out []balancer.Place
	for _, l := range k.plan.Learned {
		elements, _, err := k.elementsOf(l.Name)
		if err != nil {
			return nil, err
		}
		out = slices.Grow(out, len(elements))
		for _, e := range elements {
			p := balancer.Place{Policy: l.Policy, Uplink: l.Uplink, Left: e.left}
			key := e.key
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

// Learn adds what another node has learned, and takes it away where this one knew
// it to belong on another uplink. Places of policies and uplinks that the plan
// does not have, or that have other keys, are left out; so is what is known with
// about the same time left, what is forgotten meanwhile, and what a set has no room
// for. An error tells which sets could not be changed for another reason; the
// others are.
func (k *Kernel) Learn(places []balancer.Place) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	if k.plan == nil || len(k.plan.Learned) == 0 {
		return nil
	}
	var failed error
	for _, l := range k.plan.Learned {
		if err := k.learnIn(l, places); err != nil {
			failed = errors.Join(failed, fmt.Errorf("learn in %s what another node has learned: %w", l.Name, err))
		}
	}
	return failed
}

// learnIn is Learn for one set.
func (k *Kernel) learnIn(l balancer.LearnedSet, places []balancer.Place) error {
	elements, there, err := k.elementsOf(l.Name)
	if err != nil || !there {
		return err
	}
	known := map[string]time.Duration{} // by key: time left
	for _, e := range elements {
		known[string(e.key)] = e.left
	}
	var add, del []nftables.SetElement
	for _, p := range places {
		key := placeKey(p, l.Of)
		if p.Policy != l.Policy || key == nil || p.Left <= 0 {
			continue
		}
		left, there := known[string(key)]
		here := p.Uplink == l.Uplink
		if here && there && p.Left < left+l.Lasts/8 {
			continue
		}
		delete(known, string(key)) // once, also where it is told twice
		if there {
			del = append(del, nftables.SetElement{Key: key})
		}
		if here {
			add = append(add, nftables.SetElement{Key: key, Timeout: max(min(p.Left, l.Lasts), time.Millisecond)})
		}
	}
	set := learnedElements(l)
	return errors.Join(k.some(set, del, (*nftables.Conn).SetDeleteElements), k.some(set, add, (*nftables.Conn).SetAddElements))
}

// some changes elements of a set as far as they can be: the kernel takes all of a
// transaction or none, so one that it refuses is tried in halves. ENOENT: an element
// that is to go is gone; ENFILE: the set is full, and the rest need not be tried.
func (k *Kernel) some(set *nftables.Set, elements []nftables.SetElement, do func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	full := false
	var try func([]nftables.SetElement) error
	try = func(some []nftables.SetElement) error {
		if full || len(some) == 0 {
			return nil
		}
		d := diff{conn: k.nft}
		if err := d.elements(set, some, func(s *nftables.Set, e []nftables.SetElement) error { return do(k.nft, s, e) }); err != nil {
			return errors.Join(err, reopen(&k.nft))
		}
		err := commit(&k.nft)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.ENFILE) && !errors.Is(err, unix.ENOENT):
			return err
		case len(some) == 1:
			full = errors.Is(err, unix.ENFILE)
			return nil
		}
		half := len(some) / 2
		return errors.Join(try(some[:half]), try(some[half:]))
	}
	return try(elements)
}

// element is one of a set with time-outs.
type element struct {
	key  []byte
	left time.Duration // until it goes by itself
}

// elementsOf reads a set. One that is not there was taken away by somebody: the
// next look puts it back. (The library takes 2 kB for each element.)
func (k *Kernel) elementsOf(set string) (elements []element, there bool, err error) {
	ae := mdnetlink.NewAttributeEncoder()
	ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, ourTable.Name)
	ae.String(unix.NFTA_SET_ELEM_LIST_SET, set)
	attrs, err := ae.Encode()
	if err != nil {
		return nil, false, err
	}
	answer, err := k.ask(unix.NFT_MSG_GETSETELEM, mdnetlink.Dump, ourTable.Family, attrs)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("read the set %s: %w", set, err)
	}
	return parseElements(answer), true, nil
}

// parseElements reads keys and times that are left; the keys lie in the answer.
func parseElements(answer []mdnetlink.Message) (out []element) {
	for _, m := range answer {
		if len(m.Data) < 4 {
			continue
		}
		for list := attribute(m.Data[4:], unix.NFTA_SET_ELEM_LIST_ELEMENTS); len(list) >= unix.SizeofNlAttr; {
			n := int(binary.NativeEndian.Uint16(list))
			if n < unix.SizeofNlAttr || n > len(list) {
				break
			}
			e := element{key: attribute(attribute(list[unix.SizeofNlAttr:n], unix.NFTA_SET_ELEM_KEY), unix.NFTA_DATA_VALUE)}
			if ms := attribute(list[unix.SizeofNlAttr:n], unix.NFTA_SET_ELEM_EXPIRATION); len(ms) == 8 {
				e.left = time.Duration(min(binary.BigEndian.Uint64(ms), uint64(math.MaxInt64/time.Millisecond))) * time.Millisecond
			}
			out = append(out, e)
			list = list[min((n+3)&^3, len(list)):]
		}
	}
	return out
}

// Active tells whether new flows may go to uplinks, as Activate said last.
func (k *Kernel) Active() bool {
	k.switching.Lock()
	defer k.switching.Unlock()
	return k.active != nil && *k.active
}

func learnedElements(l balancer.LearnedSet) *nftables.Set {
	return &nftables.Set{Table: ourTable, Name: l.Name, KeyType: learnedType(l.Of), HasTimeout: true}
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
func placeKey(p balancer.Place, of balancer.PersistenceKey) []byte {
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
