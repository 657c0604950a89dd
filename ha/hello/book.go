package hello

import (
	"slices"
	"strings"
)

// book tells news from frames that somebody recorded and sends again. It is
// pure. Within a life of the sender the numbers of its frames only grow, on each
// lan. A life that was not heard before has to prove that it is of now: it sends
// back the challenge of this node, which is another one in each of its lives.
type book struct {
	challenge uint64
	senders   map[string]*sender
}

// sender is another node.
type sender struct {
	life      uint64
	challenge uint64
	last      map[string]uint64 // number of the last frame, by lan
	former    []uint64          // lives that have ended
	candidate echo              // of a life that has proved nothing yet
	unproved  uint64            // that life
}

// maxSenders bounds the nodes that are remembered, those too that this node's
// file does not have: their files may be newer.
const maxSenders = 64

// maxFormer bounds the lives that are remembered; a node that crashes in a loop
// has some hundred a day.
const maxFormer = 1024

func newBook(challenge uint64) *book {
	return &book{challenge: challenge, senders: map[string]*sender{}}
}

// take tells whether a frame that was opened is news. If it is not, greet tells
// that its sender has to hear this node first.
func (b *book) take(me string, f frame) (news, greet bool) {
	if f.Life == 0 {
		return false, false
	}
	s := b.senders[f.From]
	if s == nil {
		if len(b.senders) >= maxSenders {
			return false, false
		}
		s = &sender{last: map[string]uint64{}}
		b.senders[f.From] = s
	}
	if f.Life != s.life {
		if slices.Contains(s.former, f.Life) {
			return false, false
		}
		if !slices.Contains(f.Echoes, echo{me, b.challenge}) {
			greet = f.Life != s.unproved
			s.unproved, s.candidate = f.Life, echo{f.From, f.Challenge}
			return false, greet
		}
		if s.life != 0 {
			if len(s.former) >= maxFormer {
				s.former = s.former[1:]
			}
			s.former = append(s.former, s.life)
		}
		s.life, s.challenge, s.last = f.Life, f.Challenge, map[string]uint64{}
		s.unproved, s.candidate = 0, echo{}
	}
	if f.Seq <= s.last[f.Lan] {
		return false, false
	}
	s.last[f.Lan] = f.Seq
	return true, false
}

// echoes are what the others have to hear.
func (b *book) echoes() []echo {
	var out []echo
	for name, s := range b.senders {
		if s.life != 0 {
			out = append(out, echo{name, s.challenge})
		}
		if s.unproved != 0 {
			out = append(out, s.candidate)
		}
	}
	slices.SortFunc(out, func(a, b echo) int { return strings.Compare(a.Node, b.Node) })
	return out
}

// keep forgets who is not one of the nodes.
func (b *book) keep(nodes []string) {
	for name := range b.senders {
		if !slices.Contains(nodes, name) {
			delete(b.senders, name)
		}
	}
}
