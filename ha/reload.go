package ha

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"harouter/vrrp"
)

// A new file is agreed on in two steps, so that it runs everywhere or nowhere:
// whoever was asked (the offer) lets every live node read and check its own copy
// (a pledge each), and only if all are fit and equal tells all to adopt it as the
// next generation. A node that missed a generation fetches it from one that has
// it. What a person edits and nobody agreed on does not run: it is an alarm.

const (
	offerLimit  = 5 * time.Second        // for all nodes to read and check
	adoptLimit  = 4 * time.Second        // for all nodes to adopt
	pledgeLimit = 8 * time.Second        // a node that promised forgets it after this
	partLimit   = 6 * time.Second        // for a node that is taken out of the file to hand over and leave
	fetchLimit  = 2 * time.Second        // for the answer to a fetch
	fetchAgain  = 30 * time.Second       // after a file that this node cannot run
	coldAfter   = time.Second            // for the other nodes to be heard after a start
	trialAgain  = 5 * time.Second        // after a trial that could not be ended
	startFor    = 3 * time.Second        // a cold start is over after this
	unbindAfter = 500 * time.Millisecond // for what was sent before the promise to come in
)

// offer is a new file that this node asks all to adopt.
type offer struct {
	id         uint64
	generation uint64
	hash       string
	text       []byte
	spread     bool   // the text travels; else each node reads its own copy
	cold       bool   // the whole cluster has just started
	except     string // the node that leaves
	parted     bool   // it was told that all agree
	trial      time.Duration
	waiting    map[string]bool
	asked      map[string]bool // to prepare; who comes later fetches the file
	committed  bool
	failed     []string
	until      time.Time
	answer     func(string)
}

// pledge is a file that this node has checked for another's offer.
type pledge struct {
	from       string
	id         uint64
	check      uint64 // of ReadFile
	generation uint64
	hash       string
	text       []byte
	spread     bool
	committed  bool
	since      time.Time
	until      time.Time
}

// trial is a generation that goes away again unless somebody keeps it.
type trial struct {
	until time.Time
	text  []byte // what was before
}

// fetch is a newer generation that another node has.
type fetch struct {
	from       string
	id         uint64
	generation uint64
	until      time.Time
}

// adopting is a change of configuration that is under way in the edges.
type adopting struct {
	done  func(err string, now time.Time)
	trial *trial // that begins with it; nil: what runs then stays
}

// present are the other nodes that take part in an agreement: those alive. All
// of them have to be reachable by a word.
func (m *Machine) present(except string, now time.Time) ([]*peer, error) {
	var out []*peer
	for _, n := range m.cfg.Nodes {
		p := m.peers[n.Name]
		if p == nil || !p.alive(now) || p.Name == except || p.told && p.state.Leaving {
			continue
		}
		if !p.told || now.Sub(p.worded) > aliveFor {
			return nil, fmt.Errorf("%s is alive but not heard over gossip, so it cannot agree; if it has just ended, try again in a moment, else mend the path to its address first", p.Name)
		}
		out = append(out, p)
	}
	return out, nil
}

// propose begins an agreement on what read makes.
func (m *Machine) propose(o offer, read ReadFile, now time.Time) {
	switch {
	case m.stopping != 0:
		o.answer(m.cfg.Node + " is leaving; nothing changed")
		return
	case m.expelled():
		o.answer(m.expelledText(m.expulsion.by) + "; nothing changed")
		return
	case m.offer != nil || m.adopting != nil:
		o.answer("another change of the configuration is under way on " + m.cfg.Node + ", try again in a moment; nothing changed")
		return
	case m.pledge != nil:
		o.answer("another change of the configuration is under way on " + m.pledge.from + ", try again in a moment; nothing changed")
		return
	}
	if _, err := m.present(o.except, now); err != nil {
		o.answer(err.Error() + "; nothing changed")
		return
	}
	if o.spread && m.trial != nil {
		o.answer(m.onTrial() + "; nothing changed")
		return
	}
	if o.spread && m.edited() {
		o.answer(m.editedText() + "; nothing changed")
		return
	}
	if p := m.ahead(now); o.spread && p != nil { // the change would be made to a file that is not the cluster's any more
		o.answer(fmt.Sprintf("%s has generation %d, %s still %d: try again in a moment; nothing changed", p.Name, p.state.Gen, m.cfg.Node, m.cfg.Generation))
		return
	}
	m.nextID++
	o.id, o.until, o.waiting = m.nextID, now.Add(offerLimit), map[string]bool{}
	read.ID = o.id
	m.offer = &o
	m.do(read)
}

// ahead is a live peer that has a generation which this node has not, nil if
// there is none.
func (m *Machine) ahead(now time.Time) *peer {
	for _, n := range m.cfg.Nodes {
		if p := m.peers[n.Name]; p != nil && p.told && p.alive(now) && p.state.Gen > m.cfg.Generation {
			return p
		}
	}
	return nil
}

// edited tells whether the file on this node's disk is not the one that runs.
func (m *Machine) edited() bool { return m.fileSeen && m.file.Hash != m.cfg.Hash }

func (m *Machine) editedText() string {
	return fmt.Sprintf("the file on %s (%s) is not the one that runs (%s): harouter reload takes it into use", m.cfg.Node, short(m.file.Hash), short(m.cfg.Hash))
}

func (m *Machine) onTrial() string {
	return fmt.Sprintf("generation %d is on trial on %s: wait until the trial is over, or keep it with harouter reload", m.cfg.Generation, m.cfg.Node)
}

// onChecked goes on with what a file was read for.
func (m *Machine) onChecked(ev Checked, now time.Time) {
	switch {
	case m.offer != nil && m.offer.id == ev.ID && m.offer.hash == "":
		m.onOfferChecked(ev, now)
	case m.pledge != nil && m.pledge.check == ev.ID:
		m.onPledgeChecked(ev)
	case m.fetch != nil && m.fetch.id == ev.ID:
		m.onFetchChecked(ev, now)
	}
}

func (m *Machine) onOfferChecked(ev Checked, now time.Time) {
	o := m.offer
	if ev.Err != "" {
		m.endOffer(ev.Err+"; nothing changed", now)
		return
	}
	if m.adopting != nil { // a trial ended while the file was read
		m.endOffer("another change of the configuration is under way on "+m.cfg.Node+", try again in a moment; nothing changed", now)
		return
	}
	if m.trial != nil && !o.spread {
		m.offer = nil
		if ev.Hash != m.cfg.Hash {
			o.answer("generation " + fmt.Sprint(m.cfg.Generation) + " is on trial and the file is another one: wait until the trial is over, or reload the file unchanged to keep it; nothing changed")
			return
		}
		m.keep(o.answer, now)
		return
	}
	peers, err := m.present(o.except, now)
	if err != nil {
		m.endOffer(err.Error()+"; nothing changed", now)
		return
	}
	// A number that was used once is not used again, whoever has that file.
	o.hash, o.text, o.generation = ev.Hash, ev.Text, max(m.cfg.Generation, m.newest)+1
	o.asked = map[string]bool{}
	for _, p := range peers {
		o.waiting[p.Name], o.asked[p.Name] = true, true
		msg := Message{Kind: KindPrepare, ID: o.id, Generation: o.generation, Hash: o.hash, Cold: o.cold}
		if o.spread {
			msg.Text = o.text
		}
		m.do(Send{To: p.Name, Message: msg})
	}
	m.settleOffer(now)
}

// onPrepare promises another node to adopt a file, if it is fit.
func (m *Machine) onPrepare(from *peer, msg Message, now time.Time) {
	refuse := func(why string) {
		m.do(Send{To: from.Name, Message: Message{Kind: KindPrepared, ID: msg.ID, Error: why}})
	}
	switch {
	case m.stopping != 0:
		refuse(m.cfg.Node + " is leaving")
		return
	case m.offer != nil || m.adopting != nil || m.pledge != nil && m.pledge.from != from.Name:
		refuse("another change of the configuration is under way on " + m.cfg.Node)
		return
	case m.trial != nil:
		refuse(m.onTrial())
		return
	case msg.Generation <= m.cfg.Generation:
		refuse(fmt.Sprintf("%s has generation %d by now, try again in a moment", m.cfg.Node, m.cfg.Generation))
		return
	case len(msg.Text) > 0 && m.edited():
		refuse(m.editedText())
		return
	}
	m.nextID++
	m.pledge = &pledge{
		from: from.Name, id: msg.ID, check: m.nextID, generation: msg.Generation, hash: msg.Hash,
		spread: len(msg.Text) > 0, since: now, until: now.Add(pledgeLimit),
	}
	m.do(ReadFile{ID: m.nextID, Text: msg.Text, Cold: msg.Cold && m.starting(now)})
}

// unbind forgets a promise for an offer that its node says it no longer makes:
// the word that it was given up did not come through.
func (m *Machine) unbind(s PeerState, now time.Time) {
	p := m.pledge
	if p != nil && p.from == s.Node && p.id != s.Offer && !p.committed && now.Sub(p.since) >= unbindAfter {
		m.pledge = nil
	}
}

func (m *Machine) onPledgeChecked(ev Checked) {
	p := m.pledge
	why := ev.Err
	if why == "" && ev.Hash != p.hash {
		why = fmt.Sprintf("the file on %s is another one (%s, not %s): copy one file to all nodes", m.cfg.Node, short(ev.Hash), short(p.hash))
	}
	m.do(Send{To: p.from, Message: Message{Kind: KindPrepared, ID: p.id, Error: why}})
	if why != "" {
		m.pledge = nil
		return
	}
	p.text = ev.Text
}

func (m *Machine) onPrepared(from *peer, msg Message, now time.Time) {
	o := m.offer
	if o == nil || o.id != msg.ID || o.committed || !o.waiting[from.Name] {
		return
	}
	delete(o.waiting, from.Name)
	if msg.Error != "" {
		o.failed = append(o.failed, named(from.Name, msg.Error))
	}
	m.settleOffer(now)
}

// named says which node a text is of, unless it does so itself. A name within a
// word or a path, such as harouter.yaml for a node router, says nothing.
func named(node, text string) string {
	if slices.Contains(strings.Fields(text), node) {
		return text
	}
	return "on " + node + ": " + text
}

// settleOffer goes to the next step once everybody has answered.
func (m *Machine) settleOffer(now time.Time) {
	o := m.offer
	late := !now.Before(o.until)
	if len(o.waiting) > 0 && !late && !m.givenUp(o, now) {
		return
	}
	missing := strings.Join(slices.Sorted(maps.Keys(o.waiting)), ", ")
	switch {
	case o.committed && missing != "":
		o.failed = append(o.failed, missing+" did not say that it adopted the file; it will fetch it")
		fallthrough
	case o.committed:
		m.offer = nil
		text := ""
		if len(o.failed) > 0 {
			text = fmt.Sprintf("generation %d is in use, but %s", o.generation, strings.Join(o.failed, "; "))
			if o.trial > 0 {
				text += fmt.Sprintf("; it goes away again %v after it came, unless another reload keeps it", o.trial)
			}
		}
		o.answer(text)
	case len(o.failed) > 0:
		m.endOffer("nothing changed anywhere: "+strings.Join(o.failed, "; "), now)
	case late && o.parted && !m.parted(now):
		m.endOffer(o.except+" did not leave", now)
	case missing != "" || o.hash == "":
		if missing == "" {
			missing = m.cfg.Node
		}
		m.endOffer(missing+" did not answer; nothing changed", now)
	case o.except != "" && !o.parted:
		m.part(now)
	default:
		m.commit(now)
	}
}

// part lets a node go that all agreed to take out of the file. It goes first:
// those who have adopted that file know it no more, and could not take over from
// it.
func (m *Machine) part(now time.Time) {
	o := m.offer
	o.answer("")
	o.parted, o.until = true, now.Add(partLimit)
	o.answer = func(err string) {
		if err != "" {
			m.record("node", o.except, "", "", "left, but is not out of all files: "+err)
		}
	}
}

// parted tells whether the node that leaves is gone, or about to be and master
// no more. Of one that has not told anything yet nothing is known.
func (m *Machine) parted(now time.Time) bool {
	p := m.peers[m.offer.except]
	return p == nil || !p.alive(now) || p.told && p.state.Leaving && p.state.Role != RoleMaster
}

// givenUp tells that all whose answer lacks have died meanwhile.
func (m *Machine) givenUp(o *offer, now time.Time) bool {
	for name := range o.waiting {
		if p := m.peers[name]; p == nil || p.alive(now) {
			return false
		}
	}
	return true
}

func (m *Machine) endOffer(why string, now time.Time) {
	o := m.offer
	m.offer = nil
	for _, p := range m.peers {
		if (p.alive(now) || o.waiting[p.Name]) && o.hash != "" { // one that hangs reads it later
			m.do(Send{To: p.Name, Message: Message{Kind: KindCancel, ID: o.id}})
		}
	}
	m.record("config", "generation", fmt.Sprint(m.cfg.Generation), fmt.Sprint(m.cfg.Generation), "not changed: "+why)
	o.answer(why)
}

func (m *Machine) commit(now time.Time) {
	o := m.offer
	peers, err := m.present(o.except, now)
	if err != nil {
		m.endOffer(err.Error()+"; nothing changed", now)
		return
	}
	o.committed, o.until = true, now.Add(adoptLimit)
	m.newest = max(m.newest, o.generation)
	for _, p := range peers {
		if !o.asked[p.Name] {
			continue
		}
		o.waiting[p.Name] = true
		m.do(Send{To: p.Name, Message: Message{Kind: KindCommit, ID: o.id, Generation: o.generation, Hash: o.hash, Trial: o.trial}})
	}
	o.waiting[m.cfg.Node] = true
	m.adopt(o.text, o.generation, o.trial, o.spread, func(err string, now time.Time) {
		m.onDone(m.cfg.Node, o.id, err, now)
	}, now)
}

func (m *Machine) onCommit(from *peer, msg Message, now time.Time) {
	p := m.pledge
	if p == nil || p.from != from.Name || p.id != msg.ID || p.text == nil || p.committed {
		return // it fetches the generation when it hears that there is one
	}
	p.committed = true
	m.adopt(p.text, p.generation, msg.Trial, p.spread, func(err string, _ time.Time) {
		m.pledge = nil
		m.do(Send{To: from.Name, Message: Message{Kind: KindDone, ID: msg.ID, Error: err}})
	}, now)
}

func (m *Machine) onDone(node string, id uint64, err string, now time.Time) {
	o := m.offer
	if o == nil || o.id != id || !o.committed || !o.waiting[node] {
		return
	}
	delete(o.waiting, node)
	if err != "" {
		o.failed = append(o.failed, "on "+node+": "+err)
	}
	m.settleOffer(now)
}

// adopt has the edges take a file that was checked. write says that the file on
// disk follows.
func (m *Machine) adopt(text []byte, generation uint64, try time.Duration, write bool, done func(string, time.Time), now time.Time) {
	m.adopting = &adopting{done: done}
	if try > 0 {
		m.adopting.trial = &trial{until: now.Add(try), text: m.cfg.Text}
	}
	a := Adopt{Text: text, Generation: generation, Trial: try > 0}
	if write {
		a.Replace = m.cfg.Hash
	}
	m.do(a)
}

// keep makes a generation on trial one that stays, here and on all others. A node
// that does not hear of it goes back to the file from before as the generation
// after the trial: this one stands above that.
func (m *Machine) keep(answer func(string), now time.Time) {
	next := m.cfg.Generation + 2
	for _, p := range m.peers {
		if p.alive(now) {
			m.do(Send{To: p.Name, Message: Message{Kind: KindKeep, Generation: next, Hash: m.cfg.Hash}})
		}
	}
	m.adopt(m.cfg.Text, next, 0, false, func(err string, _ time.Time) { answer(err) }, now)
}

func (m *Machine) onKeep(from *peer, msg Message, now time.Time) {
	if m.trial == nil || m.adopting != nil || msg.Hash != m.cfg.Hash {
		return
	}
	m.record("config", "generation", fmt.Sprint(m.cfg.Generation), fmt.Sprint(msg.Generation), "kept by "+from.Name)
	m.adopt(m.cfg.Text, msg.Generation, 0, false, func(string, time.Time) {}, now)
}

// settleAgreement ends what took too long, goes back from a trial that nobody
// kept, and fetches what this node missed.
func (m *Machine) settleAgreement(now time.Time) {
	if o := m.offer; o != nil && (!now.Before(o.until) || len(o.waiting) > 0 && m.givenUp(o, now)) && (m.adopting == nil || !o.committed) {
		m.settleOffer(now)
	}
	if o := m.offer; o != nil && o.parted && !o.committed && m.parted(now) {
		m.commit(now)
	}
	if p := m.pledge; p != nil && !now.Before(p.until) && m.adopting == nil {
		m.pledge = nil
	}
	if t := m.trial; t != nil && !now.Before(t.until) && m.adopting == nil {
		m.record("config", "generation", fmt.Sprint(m.cfg.Generation), fmt.Sprint(m.cfg.Generation+1), "nobody kept it within its trial: back to the file from before")
		m.adopt(t.text, m.cfg.Generation+1, 0, true, func(string, time.Time) {}, now)
	}
	if m.fetch != nil && !now.Before(m.fetch.until) {
		m.fetch = nil
	}
	if m.offer != nil || m.pledge != nil || m.adopting != nil || m.fetch != nil || m.stopping != 0 || !m.linksKnown {
		return
	}
	m.settleColdStart(now)
	if m.offer != nil {
		return
	}
	for _, n := range m.cfg.Nodes {
		p := m.peers[n.Name]
		if p == nil || !p.told || !p.alive(now) || p.state.Trial || p.state.Gen <= m.cfg.Generation || m.expelled() {
			continue
		}
		if p.state.Hash == m.cfg.Hash { // only the number
			m.adopt(m.cfg.Text, p.state.Gen, 0, false, func(string, time.Time) {}, now)
			return
		}
		m.nextID++
		m.fetch = &fetch{from: p.Name, id: m.nextID, until: now.Add(fetchLimit)}
		m.do(Send{To: p.Name, Message: Message{Kind: KindFetch, ID: m.nextID}})
		return
	}
}

func (m *Machine) starting(now time.Time) bool { return now.Sub(m.started) < startFor }

// settleColdStart takes an edited file into use where the whole cluster, or what
// is left of it, starts anew with that file: nobody runs anything older that
// could be disturbed. A file that was on trial does not come back that way.
func (m *Machine) settleColdStart(now time.Time) {
	if m.looked || m.vrrp.State() != vrrp.Master || now.Sub(m.started) < coldAfter || !m.starting(now) || !m.edited() || m.file.Hash != m.cold {
		return
	}
	if m.file.Err != "" || m.file.Hash == m.cfg.Refused {
		m.looked = true
		return
	}
	peers, err := m.present("", now)
	if err != nil {
		return
	}
	for _, p := range peers {
		if !p.state.Starting || p.state.FileHash != m.file.Hash {
			return
		}
	}
	m.looked = true
	m.propose(offer{cold: true, answer: func(err string) {
		if err != "" {
			m.record("config", "generation", "", "", "the edited file of this start is not used: "+err)
		}
	}}, ReadFile{Cold: true}, now)
}

func (m *Machine) onFetch(from *peer, msg Message) {
	if m.trial != nil {
		return // it is kept or goes away soon
	}
	m.do(Send{To: from.Name, Message: Message{Kind: KindFile, ID: msg.ID, Generation: m.cfg.Generation, Hash: m.cfg.Hash, Text: m.cfg.Text}})
}

func (m *Machine) onFile(from *peer, msg Message) {
	if f := m.fetch; f == nil || f.id != msg.ID || f.from != from.Name || msg.Generation <= m.cfg.Generation {
		return
	}
	m.fetch.generation = msg.Generation
	m.do(ReadFile{ID: msg.ID, Text: msg.Text})
}

func (m *Machine) onFetchChecked(ev Checked, now time.Time) {
	f := m.fetch
	if m.offer != nil || m.pledge != nil || m.adopting != nil {
		m.fetch = nil // what is agreed on now may be newer
		return
	}
	if ev.Err != "" {
		f.until = now.Add(fetchAgain)
		m.record("config", "generation", fmt.Sprint(m.cfg.Generation), fmt.Sprint(f.generation), "this node cannot run the file of "+f.from+": "+ev.Err)
		return
	}
	m.fetch = nil
	m.record("config", "generation", fmt.Sprint(m.cfg.Generation), fmt.Sprint(f.generation), "missed, fetched from "+f.from)
	m.adopt(ev.Text, f.generation, 0, true, func(string, time.Time) {}, now)
}

// forget asks another node to take this one out of the file; it leaves when all
// agree.
func (m *Machine) forget(answer func(string), id uint64, now time.Time) {
	peers, err := m.present("", now)
	switch {
	case err != nil:
		answer(err.Error() + "; nothing changed")
	case len(peers) == 0:
		answer("no other node is alive that could take " + m.cfg.Node + " out of the file; nothing changed")
	default:
		m.forward(peers[0].Name, id, Message{Kind: KindForget}, now)
	}
}
