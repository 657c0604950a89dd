package gossip

import (
	"net/netip"
	"time"
)

// Event is what Config.Handler is given: one of the types below.
type Event interface{ gossipEvent() }

type (
	// Member tells that another node became a member or is one no longer
	// (it left or does not answer).
	Member struct {
		Node string
		Up   bool
	}
	// State is a snapshot published by another node, newer than any that came
	// before. Snapshots repeat every 300 ms, also unchanged: each is a sign of
	// life of that moment.
	State struct {
		Node    string
		Payload []byte
		At      time.Time // received
	}
	// Message is a direct message, delivered once (one that was sealed ahead:
	// each time that it is sent). Two messages sent shortly
	// after each other may arrive in either order.
	Message struct {
		From    string
		Kind    string
		Payload []byte
		At      time.Time // received
	}
	// Drop tells that something was refused. At most ten a second are told of
	// each reason; Gossip.Counters counts them all.
	Drop struct {
		Reason string     // DropKey, DropGarbage or DropSender
		Source netip.Addr // zero if not known
	}
)

func (Member) gossipEvent()  {}
func (State) gossipEvent()   {}
func (Message) gossipEvent() {}
func (Drop) gossipEvent()    {}

// Reasons for which something is refused: also status keys and metric labels.
const (
	DropKey     = "key"     // has the form of our gossip, but none of our keys opens it
	DropGarbage = "garbage" // does not have the form of our gossip
	DropSender  = "sender"  // sealed with our key, by a node or from an address that the file does not have
)
