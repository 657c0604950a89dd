package balancer

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// With Hold the first packet of a TCP flow to a destination that is not known waits
// in the kernel's queue for the race. It has its uplink by the slots before: what
// nobody decides about in time, for whatever reason, goes by it. The node says
// another uplink by the packet's mark, and the chain to_wan writes that down.
//
// The kernel itself bounds all of it. Only in the first moment after a destination
// was noted are packets held, so that a node which hangs costs each destination one
// repeated SYN; a full queue, and one that nobody reads, lets pass.

type (
	// Serves matches a TCP packet whose destination is (not) in a set.
	Serves struct {
		Not bool
		Set string
	}
	// Queue hands the packet to whoever reads that queue of the kernel. Where
	// nobody does the packet goes on.
	Queue struct{ Num uint16 }
)

func (Serves) stmt() {}
func (Queue) stmt()  {}

func (s Serves) String() string { return "ip daddr . tcp dport " + not(s.Not) + "@" + s.Set }
func (s Queue) String() string  { return fmt.Sprintf("queue flags bypass to %d", s.Num) }

const (
	// HoldFor is how long a packet waits at most.
	HoldFor = 300 * time.Millisecond
	// HoldRoom is how many packets of a policy may wait.
	HoldRoom = 1024

	firstQueue = 7000 // the number of the first policy's
)

// holds tells whether a policy's first packets wait: there is a race to wait for.
func (c *Config) holds(d doing, in Input) bool {
	return d.races() && d.Hold && len(c.racers(d, in)) > 1
}

// queue is the number of the queue of the policy with that name, in the order of
// the file.
func (c *Config) queue(policy string) uint16 {
	for i, p := range c.Policies {
		if p.Name == policy {
			return uint16(firstQueue + i)
		}
	}
	return 0
}

func heldSet(policy string) string           { return "held_" + policy }
func holdChain(policy, uplink string) string { return "hold_" + policy + "/" + uplink }

// firstSYN matches the first packet of a TCP flow.
var firstSYN = TCPFlags{Mask: flagFIN | flagSYN | flagRST | flagACK, Value: flagSYN}

// holdRule notes a destination that was not noted, and that packets to it wait now.
func holdRule(policy string) Rule {
	return Rule{firstSYN, Serves{Not: true, Set: wantSet(policy)}, Want{wantSet(policy), wantFor}, Want{heldSet(policy), HoldFor}}
}

// holdChains are where the slots of a policy lead whose packets wait.
func (c *Config) holdChains(d doing) (out []Chain) {
	for _, u := range c.Uplinks {
		if slotsOf(d.slots, u.ID) == 0 {
			continue
		}
		id := c.mark(u)
		out = append(out, Chain{Name: holdChain(d.Name, u.Name), Rules: []Rule{
			{firstSYN, Serves{Set: heldSet(d.Name)}, Counter{}, SetCtMark{c.MarkMask, id}, SetMetaMark{c.MarkMask, id}, Queue{c.queue(d.Name)}},
			{Jump{Kind: "goto", Chain: "up_" + u.Name}},
		}})
	}
	return out
}

// Queues tells whether rules of the table hand packets to a queue.
func (t Table) Queues() bool {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			if r.queues() {
				return true
			}
		}
	}
	return false
}

// WithoutQueue is the table for a kernel that has no queue for packets: none waits.
func (t Table) WithoutQueue() Table {
	out := Table{Sets: t.Sets}
	for _, c := range t.Chains {
		var rules []Rule
		for _, r := range c.Rules {
			if !r.queues() {
				rules = append(rules, r)
			}
		}
		c.Rules = rules
		out.Chains = append(out.Chains, c)
	}
	return out
}

func (r Rule) queues() bool {
	if len(r) == 0 {
		return false
	}
	_, ok := r[len(r)-1].(Queue)
	return ok
}

// Held is a first packet that the kernel's queue has.
type Held struct {
	Queue    uint16
	ID       uint32 // in that queue
	Mark     uint32 // the whole packet mark
	From, To netip.AddrPort
}

// Marked is the packet's mark if an uplink's stands in it, within mask.
func (h Held) Marked(uplink, mask uint32) uint32 { return h.Mark&^mask | uplink&mask }

// Holds are the packets that wait for races. The zero value has none.
type Holds struct {
	waiting map[Wanted]*waiting
}

type waiting struct {
	until   time.Time
	packets []Held
}

// Add lets a packet wait for the race that is wanted, no longer than the first one
// to the same destination does. It returns false for what waits already: the same
// flow's, repeated.
func (h *Holds) Add(w Wanted, p Held, now time.Time) bool {
	if h.waiting == nil {
		h.waiting = map[Wanted]*waiting{}
	}
	all := h.waiting[w]
	if all == nil {
		all = &waiting{until: now.Add(HoldFor)}
		h.waiting[w] = all
	}
	for _, other := range all.packets {
		if other.From == p.From {
			return false
		}
	}
	all.packets = append(all.packets, p)
	return true
}

// Release takes those that wait for a race.
func (h *Holds) Release(w Wanted) []Held {
	all := h.waiting[w]
	if all == nil {
		return nil
	}
	delete(h.waiting, w)
	return all.packets
}

// Over takes those that have waited long enough.
func (h *Holds) Over(now time.Time) (out []Held) {
	for w, all := range h.waiting {
		if !now.Before(all.until) {
			out = append(out, all.packets...)
			delete(h.waiting, w)
		}
	}
	return out
}

// Next is when somebody has waited long enough; false: nobody waits.
func (h *Holds) Next() (at time.Time, ok bool) {
	for _, all := range h.waiting {
		if !ok || all.until.Before(at) {
			at, ok = all.until, true
		}
	}
	return at, ok
}

// Ask is what becomes of a first packet to a destination: the winner's name if
// there is one, or the race that it waits for, which is to be run now if race is
// not nil. Neither: it goes by the slots.
func (r *Races) Ask(sets []RaceSet, w Wanted, now time.Time) (winner string, race *Race, waits bool) {
	if r.running[w] {
		return "", nil, true
	}
	for _, s := range sets {
		if s.Policy != w.Policy {
			continue
		}
		for _, key := range []Wanted{w, anyPort(w)} {
			if k, ok := r.known[key]; ok && now.Before(k.until) && slices.Contains(s.Uplinks, k.winner) {
				return k.winner, nil, false
			}
		}
	}
	if next := r.Next(sets, []Wanted{w}, now); len(next) == 1 {
		return "", &next[0], true
	}
	return "", nil, false
}
