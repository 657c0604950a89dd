package ha

import (
	"slices"
	"time"

	"harouter/balancer"
)

// An ISP's equipment that dies takes the carrier of all nodes, one of them earlier
// than another by as much as their ports take to notice. What the others said of
// the uplink before proves nothing then: a master that just lost it asks the one
// that would take over to probe it now, and an answer is the proof.

// sighting is a question of another node that waits for a round of probes.
type sighting struct {
	from string
	id   uint64
	at   time.Time
}

// sight is what a peer answered.
type sight struct {
	asked uint64               // id of the last question
	seen  map[string]time.Time // uplinks that worked, and when that was heard
}

// saw tells whether an uplink worked there at a time after since.
func (p *peer) saw(uplink string, since time.Time) bool {
	at, ok := p.sight.seen[uplink]
	return ok && !at.Before(since)
}

// provable tells whether a peer could answer before the flows have to end
// (DESIGN.md §5 row 8). Over a long line it could not, and is believed: a
// hand-over for nothing breaks no connection.
func (p *peer) provable(uplink string) bool { return p.view(uplink).RTT < carrierWait-proofSlack }

// askSight has a peer probe uplinks at once.
func (m *Machine) askSight(p *peer, uplinks []string) {
	m.nextID++
	p.sight.asked = m.nextID
	m.do(Send{To: p.Name, Message: Message{Kind: KindSee, ID: m.nextID, Uplinks: uplinks}, Wide: true})
}

// onSee begins a round of probes of each uplink that a master asks for.
func (m *Machine) onSee(from *peer, msg Message, now time.Time) {
	for _, name := range msg.Uplinks {
		src, known := m.sources[name]
		if !known || m.sightings[name].id == msg.ID { // it came twice
			continue
		}
		m.sightings[name] = sighting{from: from.Name, id: msg.ID, at: now}
		src.Now = true
		m.do(src)
	}
}

// showSight answers with the first round since. One that failed is no answer:
// that it did is told with the state.
func (m *Machine) showSight(r balancer.Round) {
	s, ok := m.sightings[r.Uplink]
	if !ok || r.At.Before(s.at) {
		return
	}
	delete(m.sightings, r.Uplink)
	if r.Good && !r.OnlyARP {
		m.do(Send{To: s.from, Message: Message{Kind: KindSeen, ID: s.id, Uplinks: []string{r.Uplink}}, Wide: true})
	}
}

// onSeen takes the proof.
func (m *Machine) onSeen(from *peer, msg Message, now time.Time) {
	if msg.ID != from.sight.asked {
		return
	}
	if from.sight.seen == nil {
		from.sight.seen = map[string]time.Time{}
	}
	for _, u := range m.cfg.Balancer.Uplinks {
		if slices.Contains(msg.Uplinks, u.Name) {
			from.sight.seen[u.Name] = now
		}
	}
}
