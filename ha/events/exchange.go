package events

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"harouter/ha"
)

// Kind names the messages of Exchange where they travel with others.
const Kind = "events"

// Times of the exchange.
const (
	gatherFor   = 50 * time.Millisecond  // own events are gathered before they are sent
	pace        = 100 * time.Millisecond // between two messages of events to one node
	lookEvery   = time.Second            // who is alive
	digestEvery = 5 * time.Second
)

const (
	inboxSize    = 64
	takePerPeer  = 40  // messages a second; twice and more of what a node sends
	eventsAtOnce = 256 // more do not fit into a message
)

// Exchange keeps the logs of the nodes alike. What happens here is sent to the
// live nodes at once, without waiting for an answer. Every few seconds each node
// tells the others what it holds: they send what it lacks, whoever recorded it.
// So a node that was off gets what it missed, and tells what it recorded alone.
type Exchange struct {
	log   *Log
	send  func(ctx context.Context, node string, payload []byte) error
	alive func() []string
	slog  *slog.Logger
	inbox chan received
	peers map[string]*peer // owned by Run

	mu    sync.Mutex
	taken map[string]int // messages in this second, by sender
	since time.Time      // begin of this second
}

type received struct {
	from    string
	payload []byte
}

// peer is what is known of another node.
type peer struct {
	known  bool      // it has sent a digest
	have   Digest    // what it said, and what was sent to it since
	repair bool      // it may lack what other nodes recorded
	next   time.Time // when it gets our digest
}

// NewExchange returns an exchange for this log. send hands a payload to another
// node and must not take long; that it arrives is not expected. alive names the
// live nodes, this one may be among them.
func NewExchange(log *Log, send func(ctx context.Context, node string, payload []byte) error, alive func() []string) *Exchange {
	return &Exchange{
		log: log, send: send, alive: alive, slog: log.cfg.Log,
		inbox: make(chan received, inboxSize), peers: map[string]*peer{}, taken: map[string]int{},
	}
}

// String names the task.
func (x *Exchange) String() string { return "event exchange" }

// Received takes what another node sent; the payload must not be changed
// afterwards. It never blocks: what comes too fast is dropped, and comes again
// after the next digest.
func (x *Exchange) Received(from string, payload []byte) {
	if from == x.log.cfg.Node || len(payload) > maxMessage || !x.admit(from, time.Now()) {
		return
	}
	select {
	case x.inbox <- received{from, payload}:
	default:
	}
}

// admit bounds what one node can make us do.
func (x *Exchange) admit(from string, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if now.Sub(x.since) >= time.Second {
		clear(x.taken)
		x.since = now
	}
	if len(x.taken) >= maxNodes && x.taken[from] == 0 {
		return false
	}
	x.taken[from]++
	return x.taken[from] <= takePerPeer
}

// Run exchanges until ctx ends.
func (x *Exchange) Run(ctx context.Context) error {
	look := time.NewTimer(ha.Together(time.Now(), lookEvery))
	defer look.Stop()
	push := time.NewTimer(0)
	defer push.Stop()
	waiting := true // for push
	arm := func(d time.Duration) {
		if !waiting {
			push.Reset(d)
			waiting = true
		}
	}
	x.look(ctx)
	for {
		select {
		case <-ctx.Done():
			x.push(context.WithoutCancel(ctx)) // the last word, as far as it still goes out
			return nil
		case now := <-look.C:
			look.Reset(ha.Together(now, lookEvery))
			x.look(ctx)
		case r := <-x.inbox:
			if x.take(ctx, r) {
				arm(0)
			}
		case <-x.log.news:
			arm(gatherFor)
		case <-push.C:
			waiting = false
			if x.push(ctx) {
				arm(pace)
			}
		}
	}
}

// look sends digests to those who are due, or new.
func (x *Exchange) look(ctx context.Context) {
	now := time.Now()
	alive := map[string]bool{}
	for _, node := range x.alive() {
		if node == x.log.cfg.Node {
			continue
		}
		alive[node] = true
		p := x.peer(node)
		if p != nil && (!p.known || !now.Before(p.next)) {
			x.sendDigest(ctx, node, !p.known)
			p.next = now.Add(digestEvery)
		}
	}
	for node := range x.peers {
		if !alive[node] {
			delete(x.peers, node)
		}
	}
}

// peer returns what is known of a node, nil if there are too many.
func (x *Exchange) peer(node string) *peer {
	p := x.peers[node]
	if p == nil && len(x.peers) < maxNodes {
		p = &peer{have: Digest{}}
		x.peers[node] = p
	}
	return p
}

func (x *Exchange) sendDigest(ctx context.Context, node string, ask bool) {
	b, err := encodeDigest(x.log.Have(), ask)
	if err == nil {
		err = x.send(ctx, node, b)
	}
	if err != nil {
		x.slog.Debug("send the digest of events", "node", node, "error", err)
	}
}

// take handles a message, and tells whether there may be something to send.
func (x *Exchange) take(ctx context.Context, r received) bool {
	m, err := decode(r.payload)
	if err != nil {
		x.slog.Debug("event message refused", "node", r.from, "error", err)
		return false
	}
	x.log.Merge(m.Events)
	p := x.peer(r.from)
	if p == nil || m.Have == nil {
		return false
	}
	p.known, p.have, p.repair = true, m.Have, true
	if m.Ask {
		x.sendDigest(ctx, r.from, false)
	}
	return true
}

// push sends one message to each node that lacks something, and tells whether
// more is to be sent.
func (x *Exchange) push(ctx context.Context) (more bool) {
	for node, p := range x.peers {
		if !p.known { // it may have most of it: its digest will tell
			continue
		}
		only := x.log.cfg.Node
		if p.repair {
			only = ""
		}
		lacks := x.log.Since(p.have, only, eventsAtOnce)
		if len(lacks) == 0 {
			p.repair = false
			continue
		}
		b, n, err := encodeEvents(lacks)
		if err == nil {
			err = x.send(ctx, node, b)
		}
		if err != nil {
			x.slog.Debug("send events", "node", node, "error", err)
		}
		for _, e := range lacks[:n] { // what is lost comes again after its next digest
			p.have.add(e)
		}
		more = true
	}
	return more
}
