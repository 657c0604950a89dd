package balancer

import "time"

// Round is the outcome of one probe round of one uplink, as the prober hands
// it on, in the order in which the rounds began.
type Round struct {
	// Uplink is the uplink's name.
	Uplink string
	// At is when the round was handed on; it never runs backwards.
	At time.Time
	// Good says that the quorum of the targets answered in time; with ARP,
	// that the gateway did.
	Good bool
	// RTT is the time that the fastest answer took, zero when not known.
	RTT time.Duration
	// OnlyARP says that targets are configured but this node had no address
	// to probe them from, so that the gateway was asked by ARP instead.
	OnlyARP bool
	// Carries says of a bad round that since the one before the line carried
	// traffic all the same, there and back.
	Carries bool
	// Reason says why the round was bad, in words for a person; empty if good.
	Reason string
}
