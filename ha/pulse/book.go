package pulse

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"harouter/ha"
)

const (
	beatEvery  = 40 * time.Millisecond // questions on the first way
	roundEvery = 10 * time.Millisecond // questions on all ways, once it owes an answer
	// hasteFor is how long these rounds last; whoever has not acted by then is in
	// no hurry.
	hasteFor  = 300 * time.Millisecond
	slowEvery = 100 * time.Millisecond
	// sweepEvery is how often all ways are asked while the node answers, and how often
	// a node is that does not.
	sweepEvery = time.Second
	// liveFor is how old the last answer on a way may be for it to count.
	liveFor = 3 * time.Second
	// tellAfter is how long a silence lasts before a word is said of it, and
	// pauseLeast what is said of one that ended.
	tellAfter  = 35 * time.Millisecond
	pauseLeast = 15 * time.Millisecond
	// lateMost is how late this process may come: after that it may be itself that
	// stood still, and what it has not heard proves nothing.
	lateMost = 20 * time.Millisecond
	// stallLeast is what is no want of a processor any more: this machine stood still,
	// and comeRound is what its host takes until all of it runs again. The node may
	// be another guest there.
	stallLeast = 100 * time.Millisecond
	comeRound  = 50 * time.Millisecond
)

// way is one of the node's addresses, or a third party's.
type way struct {
	ha.Way
	on       string // the device, "" it leads nowhere now
	mac      net.HardwareAddr
	answered time.Time
}

// spot is what one socket asks on.
type spot struct {
	device string
	six    bool
}

func (w *way) spot() spot { return spot{w.on, w.Address.Is6()} }

// question is to be sent: to all on the wire, or to the machine that answered last.
type question struct {
	*way
	wide bool
}

// book is what is known of one node. It reads no clock and does no I/O.
type book struct {
	node   string
	ways   []*way // the first is the node's address
	others []*way

	missed    time.Time // the first question that was not answered; zero: none
	beat      time.Time // the last question of a node that answers
	asking    bool      // in rounds
	rounds    int
	witnessed int
	witness   bool // in the round that is under way
	swept     time.Time
	due       time.Time // the next tick; zero: none
}

// follow takes an order. What is known of the same ways stays.
func (b *book) follow(o ha.Pulse) {
	if o.Node != b.node {
		*b = book{node: o.Node}
	}
	b.ways, b.others = renew(b.ways, o.Ways), renew(b.others, o.Others)
	if slices.ContainsFunc(b.ways, func(w *way) bool { return w.answered.IsZero() }) {
		b.swept = time.Time{} // all are asked with the next question
	}
}

func renew(old []*way, wanted []ha.Way) []*way {
	var out []*way
	for _, w := range wanted {
		i := slices.IndexFunc(old, func(o *way) bool { return o.Way == w })
		if i < 0 {
			out = append(out, &way{Way: w, on: w.Device})
		} else {
			out = append(out, old[i])
		}
	}
	return out
}

// heard takes an answer.
func (b *book) heard(device string, from netip.Addr, mac net.HardwareAddr, now time.Time) (out []ha.Event) {
	for _, w := range b.ways {
		if w.on != device || w.Address != from {
			continue
		}
		if w.answered = now; mac != nil {
			w.mac = mac
		}
		if b.asking && now.Sub(b.missed) >= pauseLeast {
			out = append(out, ha.Recovered{Node: b.node, After: now.Sub(b.missed)})
		}
		switch soon := now.Add(beatEvery); {
		case !b.missed.IsZero():
			if b.due = b.beat.Add(beatEvery); b.due.Before(now) {
				b.due = now.Add(roundEvery)
			}
		case w == b.ways[0] && b.due.After(soon): // it came, or came back
			b.due = soon
		}
		b.calm()
	}
	if b.asking && slices.ContainsFunc(b.others, func(w *way) bool { return w.on == device && w.Address == from }) {
		b.witness = b.witness || slices.Contains(b.live(), device)
	}
	return out
}

func (b *book) calm() {
	b.missed, b.asking, b.rounds, b.witnessed, b.witness = time.Time{}, false, 0, 0, false
}

// live are the devices on which the node answered until its silence began.
func (b *book) live() []string {
	var out []string
	for _, w := range b.ways {
		if b.fresh(w) && !slices.Contains(out, w.on) {
			out = append(out, w.on)
		}
	}
	return out
}

func (b *book) fresh(w *way) bool {
	return w.on != "" && !w.answered.IsZero() && b.missed.Sub(w.answered) < liveFor
}

// tick tells whom to ask now, after all answers that are there were taken in, and
// what is to be told. Nothing is before b.due.
func (b *book) tick(now time.Time) (ask []question, tell []ha.Event) {
	if len(b.ways) == 0 {
		b.due = time.Time{}
		return nil, nil
	}
	if now.Before(b.due) {
		return nil, nil
	}
	if late := now.Sub(b.due); !b.due.IsZero() && late > lateMost {
		b.calm()
		if late >= stallLeast {
			b.due = now.Add(comeRound)
			return nil, nil
		}
	}
	switch first := b.ways[0]; {
	case b.asking:
		return b.round(now)
	case !b.missed.IsZero():
		b.asking, b.rounds = true, -1 // the one that ends now asked only on one way
		return b.round(now)
	case first.answered.IsZero() || now.Sub(first.answered) >= liveFor: // it cannot be asked, or is off
		b.due = now.Add(sweepEvery)
		return b.sweep(now), nil
	default:
		b.missed, b.beat, b.due = now, now, now.Add(roundEvery) // unless an answer comes before
		if now.Sub(b.swept) >= sweepEvery {
			return b.sweep(now), nil
		}
		return []question{{way: first}}, nil
	}
}

// sweep asks on all ways.
func (b *book) sweep(now time.Time) (ask []question) {
	b.swept = now
	for _, w := range b.ways {
		ask = append(ask, question{w, w.mac == nil})
	}
	return ask
}

// round ends a round of questions and begins the next.
func (b *book) round(now time.Time) (ask []question, tell []ha.Event) {
	b.rounds++
	if b.witness {
		b.witnessed++
	}
	b.witness = false
	silence := now.Sub(b.missed)
	if silence >= tellAfter {
		tell = append(tell, ha.Unanswered{
			Node: b.node, At: now, For: silence, Rounds: b.rounds, Witnessed: b.witnessed,
			Devices: len(b.live()), Direct: b.fresh(b.ways[0]),
		})
	}
	if silence >= liveFor { // it is off
		b.calm()
		b.due = now.Add(sweepEvery)
		return b.sweep(now), tell
	}
	b.due = now.Add(roundEvery)
	if silence >= hasteFor {
		b.due = now.Add(slowEvery)
	}
	for _, w := range slices.Concat(b.ways, b.others) {
		ask = append(ask, question{w, true})
	}
	return ask, tell
}
