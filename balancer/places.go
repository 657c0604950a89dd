package balancer

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// Place is what a policy with learned persistence remembers: that this source,
// this destination, or both together, belong on an uplink.
type Place struct {
	Policy      string        `json:"policy"`
	Uplink      string        `json:"uplink"`
	Source      netip.Addr    `json:"source,omitzero"` // zero where the policy does not look at it
	Destination netip.Addr    `json:"destination,omitzero"`
	Left        time.Duration `json:"left"` // until it is forgotten, ns
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

// MaxPlaces is how many places travel in one message.
const MaxPlaces = 1000

// EncodePlaces is the form in which places travel.
func EncodePlaces(places []Place) []byte {
	b, err := json.Marshal(places)
	if err != nil { // only names, addresses and numbers: cannot happen
		panic(err)
	}
	return b
}

// DecodePlaces reads what EncodePlaces wrote.
func DecodePlaces(b []byte) ([]Place, error) {
	var out []Place
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("read what a node has learned: %w", err)
	}
	if len(out) > MaxPlaces {
		return nil, fmt.Errorf("read what a node has learned: %d places, want %d at most", len(out), MaxPlaces)
	}
	return out, nil
}
