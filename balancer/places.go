package balancer

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"time"
)

// Place is what a policy with learned persistence remembers: that this source,
// this destination, or both together, belong on an uplink.
type Place struct {
	Policy      string
	Uplink      string
	Source      netip.Addr // zero where the policy does not look at it
	Destination netip.Addr
	Left        time.Duration // until it is forgotten
}

// Told is what other nodes were told of places. The zero value has told nothing.
type Told struct {
	until map[Place]time.Time // by the place without its time
}

// News are, of all places that this node knows, those that the others do not know
// yet, or would forget clearly before this node does. It takes them for told. What
// is no longer among them is not told either: the others have forgotten it with
// their uplink, or were told of another one.
func (t *Told) News(places []Place, now time.Time) []Place {
	until := make(map[Place]time.Time, len(places))
	var out []Place
	for _, p := range places {
		key, ends := p, now.Add(p.Left)
		key.Left = 0
		if told, ok := t.until[key]; ok && told.After(now) && ends.Sub(told) < p.Left/4 {
			until[key] = told
			continue
		}
		until[key] = ends
		out = append(out, p)
	}
	t.until = until
	return out
}

// Latest leaves out what a later place of the same hosts and policy replaces.
func Latest(places []Place) []Place {
	last := make(map[Place]int, len(places)) // by the place without its uplink and time
	for i, p := range places {
		p.Uplink, p.Left = "", 0
		last[p] = i
	}
	out := make([]Place, 0, len(last))
	for i, p := range places {
		key := p
		key.Uplink, key.Left = "", 0
		if last[key] == i {
			out = append(out, p)
		}
	}
	return out
}

// MaxPlaces is how many places travel in one message: some 130 kB of them.
const MaxPlaces = 8192

// batch is how places travel: those of one policy and uplink, as bytes.
type batch struct {
	Policy      string `json:"policy"`
	Uplink      string `json:"uplink"`
	Source      int    `json:"source,omitempty"` // bytes of each address: 4, 16, 0 where there is none
	Destination int    `json:"destination,omitempty"`
	Places      []byte `json:"places"` // of each the addresses, and ms as 4 bytes, big endian
}

// EncodePlaces is the form in which places travel.
func EncodePlaces(places []Place) []byte {
	type kind struct {
		policy, uplink      string
		source, destination int
	}
	batches := []*batch{}
	of := map[kind]*batch{}
	for _, p := range places {
		k := kind{p.Policy, p.Uplink, p.Source.BitLen() / 8, p.Destination.BitLen() / 8}
		b := of[k]
		if b == nil {
			b = &batch{Policy: k.policy, Uplink: k.uplink, Source: k.source, Destination: k.destination}
			of[k], batches = b, append(batches, b)
		}
		b.Places = append(b.Places, p.Source.AsSlice()...)
		b.Places = append(b.Places, p.Destination.AsSlice()...)
		b.Places = binary.BigEndian.AppendUint32(b.Places, uint32(min(max(p.Left.Milliseconds(), 0), math.MaxUint32)))
	}
	b, err := json.Marshal(batches)
	if err != nil { // only names, numbers and bytes: cannot happen
		panic(err)
	}
	return b
}

// DecodePlaces reads what EncodePlaces wrote: places in their order, but those of
// one policy and uplink together.
func DecodePlaces(b []byte) ([]Place, error) {
	var batches []batch
	if err := json.Unmarshal(b, &batches); err != nil {
		return nil, fmt.Errorf("read what a node has learned: %w", err)
	}
	var out []Place
	for _, b := range batches {
		for _, n := range []int{b.Source, b.Destination} {
			if n != 0 && n != 4 && n != 16 {
				return nil, fmt.Errorf("read what a node has learned: an address of %d bytes", n)
			}
		}
		each := b.Source + b.Destination + 4
		if n := len(b.Places) / each; len(b.Places)%each != 0 || len(out)+n > MaxPlaces {
			return nil, fmt.Errorf("read what a node has learned: %d bytes of places with %d each after %d, want whole ones and %d at most", len(b.Places), each, len(out), MaxPlaces)
		}
		for rest := b.Places; len(rest) > 0; rest = rest[each:] {
			p := Place{Policy: b.Policy, Uplink: b.Uplink, Left: time.Duration(binary.BigEndian.Uint32(rest[each-4:])) * time.Millisecond}
			p.Source, _ = netip.AddrFromSlice(rest[:b.Source]) // zero where there is none
			p.Destination, _ = netip.AddrFromSlice(rest[b.Source : each-4])
			out = append(out, p)
		}
	}
	return out, nil
}
