package main

import (
	"context"
	"slices"
	"time"

	"harouter/balancer"
	"harouter/ha"
)

// learned replicates what the kernel of the master has learned of who belongs on
// which uplink (policies with persistence.learned): a takeover then moves nobody.
type learned struct{ d *daemon }

func (l learned) String() string { return "learned places" }

const (
	learnedKind  = "learned"            // of the messages
	learnedEvery = time.Second          // the table is read,
	learnedMost  = 10 * time.Second     // a large one less often:
	learnedShare = 50                   // reading it takes one part in so many of the time
	learnedAnew  = 1 * time.Minute      // and all is told, for who missed something,
	learnedEach  = 5 * time.Millisecond // or, of many places, so much for each
)

// tellAnew is when all is told again after so many places were known.
func tellAnew(places int) time.Duration {
	return max(learnedAnew, time.Duration(places)*learnedEach)
}

// nextRead is when the table is read again, after reading and telling took so
// long. The kernel tells nobody what its rules learn, and gives no part of a set.
func nextRead(took time.Duration) time.Duration {
	return min(max((took*learnedShare).Truncate(learnedEvery), learnedEvery), learnedMost)
}

// learnedQueue is how many messages of other nodes may wait to be learned.
const learnedQueue = 256

func (l learned) Run(ctx context.Context) error {
	t := time.NewTimer(ha.Together(time.Now(), learnedEvery))
	defer t.Stop()
	var told balancer.Told
	anew, known := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case places := <-l.d.places:
			// Each call reads the whole table: what waits is learned at once.
			for more := true; more; {
				select {
				case next := <-l.d.places:
					places = append(places, next...)
				default:
					more = false
				}
			}
			if err := l.d.plane.Learn(balancer.Latest(places)); err != nil {
				l.d.log.part("dataplane").Warn("learned places", "error", err)
			}
		case <-l.d.newcomer:
			told = balancer.Told{}
		case now := <-t.C:
			if now.Sub(anew) >= tellAnew(known) {
				told, anew = balancer.Told{}, now
			}
			known = l.tell(ctx, &told, now)
			done := time.Now()
			t.Reset(ha.Together(done, nextRead(done.Sub(now))))
		}
	}
}

// tell tells the other nodes what is new, if this one gives flows to uplinks, and
// returns how many places it knows.
func (l learned) tell(ctx context.Context, told *balancer.Told, now time.Time) (known int) {
	if !l.d.plane.Active() {
		*told = balancer.Told{}
		return 0
	}
	places, err := l.d.plane.Learned()
	if err != nil {
		l.d.log.part("dataplane").Warn("learned places", "error", err)
		return 0
	}
	for part := range slices.Chunk(told.News(places, now), balancer.MaxPlaces) {
		message := balancer.EncodePlaces(part)
		for node := range l.d.settings().peers() {
			// A node that is not there is told all when it comes.
			_ = l.d.gossip.Send(ctx, node, learnedKind, message)
		}
	}
	return len(places)
}

// received takes what another node has learned. It must not wait.
func (l learned) received(payload []byte) {
	places, err := balancer.DecodePlaces(payload)
	if err != nil {
		l.d.loop.Post(ha.Dropped{Part: "gossip", Reason: "garbage"})
		return
	}
	if l.d.plane.Active() { // this node's own flows are the newer word
		return
	}
	select {
	case l.d.places <- places:
	default: // it is told again
	}
}
