package join

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Bounds of the book.
const (
	maxOpen     = 16              // tickets that are valid at once
	maxPast     = 64              // tickets of which we remember how they ended
	maxWrong    = 10              // wrong secrets in total, until every open ticket is void
	firstDelay  = time.Second     // after a source's first wrong secret; doubles
	longDelay   = 5 * time.Minute // at most
	forgetAfter = time.Hour       // a source that behaves
)

// fate is what became of a ticket.
type fate uint8

const (
	fateOpen fate = iota
	fateBusy      // a router is being served with it
	fateUsed
	fateExpired
	fateVoid // too many wrong ones were tried
)

// entry is a ticket as the issuer remembers it.
type entry struct {
	hash  [sha256.Size]byte // of the secret
	until time.Time
	fate  fate
	by    string // node that used it
}

func (e *entry) valid() bool { return e.fate == fateOpen || e.fate == fateBusy }

// offender is a source of wrong secrets.
type offender struct {
	wrong int
	free  time.Time // no secret is looked at before
	last  time.Time
}

// book decides which secret is good. It is pure; the Server calls it under its
// lock.
type book struct {
	entries   []*entry
	wrong     int // since the first of the open tickets was issued
	offenders map[netip.Addr]offender
}

// refusal says why a secret is not accepted.
type refusal struct {
	drop  string // one of the Drop reasons
	text  string
	alarm string // for the event log, "" none
}

// issue takes a new ticket into the book.
func (b *book) issue(t Ticket, now time.Time) error {
	b.expire(now)
	open := b.open(now)
	if open >= maxOpen {
		return fmt.Errorf("%d tickets are valid already: use one, or wait until one ends", open)
	}
	if open == 0 {
		b.wrong = 0
	}
	for s, o := range b.offenders {
		if now.Sub(o.last) > forgetAfter {
			delete(b.offenders, s)
		}
	}
	b.entries = append(b.entries, &entry{hash: sha256.Sum256(t.secret[:]), until: t.until})
	if past := len(b.entries) - maxPast - maxOpen; past > 0 {
		b.entries = slices.DeleteFunc(b.entries, func(e *entry) bool {
			if past > 0 && !e.valid() {
				past--
				return true
			}
			return false
		})
	}
	return nil
}

// claim looks for the ticket of a secret. Who gets an entry must end with use
// or release.
func (b *book) claim(secret []byte, source netip.Addr, now time.Time) (*entry, *refusal) {
	b.expire(now)
	source = wide(source)
	o := b.offenders[source]
	if wait := o.free.Sub(now); wait > 0 {
		return nil, &refusal{drop: DropDelay, text: fmt.Sprintf("a wrong ticket came from your address before: try again in %d seconds", int(wait.Seconds())+1)}
	}
	switch e := b.find(secret); {
	case e == nil && b.open(now) == 0:
		return nil, &refusal{drop: DropTicket, text: "no ticket is valid at this router (tickets end with its daemon): make one there with `harouter token`"}
	case e == nil:
		return nil, b.mistake(o, source, now)
	case e.fate == fateBusy:
		return nil, &refusal{drop: DropUsed, text: "another router is joining with this ticket at this moment: make one for each router with `harouter token`"}
	case e.fate == fateUsed:
		return nil, &refusal{drop: DropUsed, text: fmt.Sprintf("the ticket was used already, by %s: make a new one with `harouter token`", e.by)}
	case e.fate == fateExpired:
		return nil, &refusal{drop: DropUsed, text: "the ticket is too old: make a new one with `harouter token`"}
	case e.fate == fateVoid:
		return nil, &refusal{drop: DropUsed, text: fmt.Sprintf("the ticket is void, since %d wrong ones were tried: make a new one with `harouter token`", maxWrong)}
	default:
		e.fate = fateBusy
		delete(b.offenders, source)
		return e, nil
	}
}

// find compares with every ticket, in a time that tells nothing.
func (b *book) find(secret []byte) *entry {
	hash := sha256.Sum256(secret)
	var found *entry
	for _, e := range b.entries {
		if subtle.ConstantTimeCompare(hash[:], e.hash[:]) == 1 {
			found = e
		}
	}
	return found
}

// mistake counts a wrong secret.
func (b *book) mistake(o offender, source netip.Addr, now time.Time) *refusal {
	o.free = now.Add(min(firstDelay<<min(o.wrong, 16), longDelay))
	o.wrong++
	o.last = now
	if b.offenders == nil {
		b.offenders = map[netip.Addr]offender{}
	}
	b.offenders[source] = o
	r := &refusal{
		drop: DropTicket,
		text: "the ticket is not one of this router (tickets end with its daemon, and are good at the address that was printed with them): make a new one with `harouter token`",
	}
	b.wrong++
	if b.wrong < maxWrong {
		return r
	}
	for _, e := range b.entries {
		if e.valid() {
			e.fate = fateVoid
		}
	}
	b.wrong = 0
	r.alarm = fmt.Sprintf("%d wrong tickets were tried, the last one from %v: every open ticket is void", maxWrong, source)
	return r
}

// use ends a ticket: its router has what it came for.
func (b *book) use(e *entry, node string) {
	e.fate, e.by = fateUsed, node
}

// release gives a ticket back that was good for nothing.
func (b *book) release(e *entry) {
	if e.fate == fateBusy { // else it became void meanwhile
		e.fate = fateOpen
	}
}

// expire ends what is over. A router that is being served is served.
func (b *book) expire(now time.Time) {
	for _, e := range b.entries {
		if e.fate == fateOpen && !now.Before(e.until) {
			e.fate = fateExpired
		}
	}
}

// open counts the valid tickets.
func (b *book) open(now time.Time) int {
	b.expire(now)
	n := 0
	for _, e := range b.entries {
		if e.valid() {
			n++
		}
	}
	return n
}

// deadline is the next end of a ticket; zero if none will end by itself.
func (b *book) deadline(now time.Time) time.Time {
	b.expire(now)
	var next time.Time
	for _, e := range b.entries {
		if e.fate == fateOpen && (next.IsZero() || e.until.Before(next)) {
			next = e.until
		}
	}
	return next
}

// wide is what counts as one source: an IPv6 host has a /64 to itself.
func wide(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
