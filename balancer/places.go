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

// News are the places that the others do not know yet, or would forget clearly
// before this node does. It takes them for told.
func (t *Told) News(places []Place, now time.Time) []Place {
	if t.until == nil {
		t.until = map[Place]time.Time{}
	}
	for p, until := range t.until {
		if !until.After(now) {
			delete(t.until, p)
		}
	}
	var out []Place
	for _, p := range places {
		key, until := p, now.Add(p.Left)
		key.Left = 0
		if told, ok := t.until[key]; ok && until.Sub(told) < p.Left/4 {
			continue
		}
		t.until[key] = until
		out = append(out, p)
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
