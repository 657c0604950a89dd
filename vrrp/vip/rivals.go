package vip

import (
	"bytes"
	"net"
	"net/netip"
	"time"
)

// Conflict says that another machine answers for a held address, or does so no
// more.
type Conflict struct {
	Address netip.Prefix
	Device  string
	MAC     net.HardwareAddr // the other machine's
	Gone    bool
}

const (
	// deafFor is how long nothing counts after a change of hands: the node that
	// had the addresses, or took them, still announces then.
	deafFor = time.Second
	// askEvery is how often it is asked who else has a held address: few enough
	// frames, and a rival that keeps silent is found within two seconds.
	askEvery = 1500 * time.Millisecond
	// confirmAfter is when it is asked once more after a rival was heard.
	confirmAfter = 200 * time.Millisecond
	// confirmWithin is how long the answer to that may take.
	confirmWithin = 500 * time.Millisecond
	// goneAfter is how long a rival must not be heard: three questions.
	goneAfter = 3*askEvery + confirmWithin
)

// spot is an address on a device, as far as conflicts go.
type spot struct {
	device string
	prefix netip.Prefix
}

// rivals knows which other machines answer for our addresses. It is pure: what
// is heard and the time go in, questions and conflicts come out.
type rivals struct {
	deaf time.Time // nothing counts before
	next time.Time // when all are asked for
	by   map[spot]*rival
}

type rival struct {
	mac     net.HardwareAddr
	heard   time.Time // last
	confirm time.Time // when to ask once more; zero: was asked
	asked   time.Time // when it was; an answer after this is proof
	told    bool
}

// begin says that the addresses have just changed hands.
func (r *rivals) begin(now time.Time) {
	r.deaf = now.Add(deafFor)
	r.next = r.deaf
}

// hear takes in that a machine named itself the holder of an address, and
// tells whether that proves a conflict which was not told yet.
func (r *rivals) hear(s spot, mac net.HardwareAddr, now time.Time) (Conflict, bool) {
	if now.Before(r.deaf) {
		return Conflict{}, false
	}
	v := r.by[s]
	switch {
	case v == nil:
		if r.by == nil {
			r.by = map[spot]*rival{}
		}
		r.by[s] = &rival{mac: bytes.Clone(mac), heard: now, confirm: now.Add(confirmAfter)}
		return Conflict{}, false
	case v.told || !v.confirm.IsZero():
		v.heard = now
		return Conflict{}, false
	}
	v.mac, v.heard, v.told = bytes.Clone(mac), now, true
	return v.conflict(s), true
}

func (v *rival) conflict(s spot) Conflict {
	return Conflict{Address: s.prefix, Device: s.device, MAC: v.mac}
}

// deadline is when step wants to be called.
func (r *rivals) deadline() time.Time {
	at := r.next
	for _, v := range r.by {
		if !v.confirm.IsZero() && v.confirm.Before(at) {
			at = v.confirm
		}
	}
	return at
}

// step tells which of the held addresses to ask for now, and which conflicts
// have ended.
func (r *rivals) step(held map[spot]bool, now time.Time) (ask []spot, gone []Conflict) {
	gone = r.keep(held)
	for s, v := range r.by {
		switch {
		case !v.told && v.confirm.IsZero() && now.Sub(v.asked) > confirmWithin:
			delete(r.by, s) // it was gone when it was asked again
		case v.told && now.Sub(v.heard) > goneAfter:
			gone = append(gone, r.end(s))
		}
	}
	all := !now.Before(r.next)
	if all {
		r.next = now.Add(askEvery)
	}
	for s := range held {
		v := r.by[s]
		due := v != nil && !v.confirm.IsZero() && !now.Before(v.confirm)
		if due {
			v.confirm, v.asked = time.Time{}, now
		}
		if all || due {
			ask = append(ask, s)
		}
	}
	return ask, gone
}

// keep ends the conflicts about addresses that are not held any more.
func (r *rivals) keep(held map[spot]bool) (gone []Conflict) {
	for s, v := range r.by {
		switch {
		case held[s]:
		case v.told:
			gone = append(gone, r.end(s))
		default:
			delete(r.by, s)
		}
	}
	return gone
}

func (r *rivals) end(s spot) Conflict {
	c := r.by[s].conflict(s)
	c.Gone = true
	delete(r.by, s)
	return c
}
