package ha

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// Kind names a direct message between nodes.
type Kind string

const (
	KindHandover Kind = "handover" // master -> successor: take over, then say taken
	KindTaken    Kind = "taken"    // successor: addresses are in place and announced
	KindReady    Kind = "ready"    // successor, to a handover that waits: say gone
	KindGone     Kind = "gone"     // former master: my addresses are gone, put yours on
	KindRefused  Kind = "refused"  // successor, or master asked: not now, and why
	KindYield    Kind = "yield"    // master: I have stepped back, take over at once
	KindGaveWay  Kind = "gave-way" // former master, to the one it heard: two met, you stay
	KindClaim    Kind = "claim"    // backup -> master: hand over to me
	KindFailover Kind = "failover" // any node -> master: an operator's wish
	KindAuto     Kind = "auto"     // any node -> master: end the hold
	KindResult   Kind = "result"   // master: outcome of failover or auto
	KindPrepare  Kind = "prepare"  // is this file (the one you have, or Text) fit to be the next generation?
	KindPrepared Kind = "prepared" // yes, or Error
	KindCancel   Kind = "cancel"   // forget what you prepared
	KindCommit   Kind = "commit"   // it is the next generation
	KindDone     Kind = "done"     // and it runs here, or Error
	KindKeep     Kind = "keep"     // a generation on trial is kept
	KindFetch    Kind = "fetch"    // which file do you run?
	KindFile     Kind = "file"     // this one
	KindForget   Kind = "forget"   // take me out of the file
	KindVouch    Kind = "vouch"    // is this advert yours?
	KindVouched  Kind = "vouched"  // the answer: role and effective priority
	KindSee      Kind = "see"      // master -> peer: probe these uplinks now
	KindSeen     Kind = "seen"     // the answer: they work here
	KindFenced   Kind = "fenced"   // a master's guard -> successor: take over at once
	KindMembers  Kind = "members"  // to a stranger that sends adverts: who the nodes are, and since which generation
)

// Message is one direct message; what is not used is empty.
type Message struct {
	Kind   Kind   `json:"kind"`
	ID     uint64 `json:"id,omitempty"`
	To     string `json:"to,omitempty"`
	Hold   bool   `json:"hold,omitempty"`
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`

	Role     Role  `json:"role,omitempty"`     // vouched
	Priority uint8 `json:"priority,omitempty"` // vouched: effective
	Was      uint8 `json:"was,omitempty"`      // vouched: the same while it was master a moment ago

	Await bool `json:"await,omitempty"` // handover: say ready, and put the addresses on when gone is said

	Term     uint64 `json:"term,omitempty"`     // handover, taken, yield, gave-way: highest of a master; 0: flows are not replicated
	Unsynced bool   `json:"unsynced,omitempty"` // claim: although it does not have all flows

	Will []byte `json:"will,omitempty"` // fenced

	Uplinks []string `json:"uplinks,omitempty"` // handover: because of these; see, seen

	Generation uint64                `json:"generation,omitempty"`
	Hash       string                `json:"hash,omitempty"`
	Members    map[string]netip.Addr `json:"members,omitempty"` // members: nodes of the file
	Text       []byte                `json:"text,omitempty"`    // the file
	Cold       bool                  `json:"cold,omitempty"`    // prepare: all nodes have just started
	Trial      time.Duration         `json:"trial,omitempty"`   // commit: it goes back after this, unless kept
}

// Encode returns the form in which a message travels.
func (m Message) Encode() []byte {
	b, err := json.Marshal(m)
	if err != nil { // only strings and numbers: cannot happen
		panic(err)
	}
	return b
}

// DecodeMessage reads what Encode wrote.
func DecodeMessage(b []byte) (Message, error) {
	var m Message
	if err := json.Unmarshal(b, &m); err != nil {
		return Message{}, fmt.Errorf("read a node's message: %w", err)
	}
	return m, nil
}
