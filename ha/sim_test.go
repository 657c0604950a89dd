package ha

import (
	"container/heap"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"harouter/balancer"
	"harouter/vrrp"
)

// sim runs the machines of a whole cluster in virtual time: adverts and words
// travel with a small delay, addresses and plans take a moment.
type sim struct {
	t       testing.TB
	now     time.Time
	start   time.Time
	queue   simQueue
	seq     int
	nodes   map[string]*simNode
	sorted  []*simNode
	log     []string
	dead    map[string]bool // uplinks whose probes are not answered
	slow    map[string]bool // and those where that takes long
	chaos   *chaos          // nil: wires and edges always take the same time
	every   time.Duration   // between probes
	crashes map[string]int  // before the next life
	noDone  bool            // that a file was adopted is not told
	lans    simLans
	mute    Kind // words of this kind are lost
	feels   bool // machines are asked whether they run
}

const (
	simDelay = 500 * time.Microsecond // on any wire
	simWork  = 2 * time.Millisecond   // addresses or a plan in the kernel
)

type simNode struct {
	adverts  int // sent
	s        *sim
	name     string
	m        *Machine
	cfg      Config
	life     int // a restart makes what is under way void
	running  bool
	repeat   Advertise // zero Interval: silent
	turn     int
	alarm    int // number of the wake-up that is pending
	holds    bool
	held     []span // when it held the addresses
	active   bool
	turned   bool      // since this life began
	graced   time.Time // when TCP in mid-stream was last given grace
	links    map[string]Link
	exit     *Exit
	answers  map[uint64]string
	deleted  []string
	toldOf   []string // uplinks of whose dead flows it told the hosts
	marks    []uint32 // of what was deleted
	moved    int      // how often flows were to return
	dropped  []string // addresses whose flows were ended
	inKernel uint64   // the plan there
	applied  int
	guard    Guard
	lost     map[string]bool // nodes whose gossip does not arrive here
	deaf     bool            // adverts on the lan do not arrive here
	muffled  bool            // no advert arrives here
	sources  map[string]Source
	lastPlan balancer.Plan
	ran      []string          // files taken in this life
	stopped  bool              // SIGSTOP
	waits    []Event           // words that it has not read
	disk     string            // the configuration file
	accepted string            // what was agreed on, with
	gen      uint64            // its generation
	rests    bool              // remembered
	noRoom   bool              // to remember anything
	switches map[string]Switch // remembered
	refused  string            // hash of a file on trial
	blind    map[string]bool   // uplinks whose probes are not answered here
	full     map[string]bool   // of those: because traffic fills them
	ails     string            // why its check fails
	strain   strain            // what chaos does to this node
	drift    int               // of its clock, in millionths
	looks    time.Duration     // after a change of the file, until it sees lan2; 0: never
	lab      bool              // lan2 is unplugged
	passes   time.Time         // until when packets go through it
	flows    simFlows
	greeting PeerState // repeated on each lan
	looking  map[string]Look
	pulse    simPulse
}

// clock is what the clock of a node shows, which runs by its own drift.
func (n *simNode) clock() time.Time {
	return n.s.now.Add(n.s.now.Sub(n.s.start) * time.Duration(n.drift) / 1_000_000)
}

// takes is how long d on that clock takes.
func (n *simNode) takes(d time.Duration) time.Duration {
	if n.drift == 0 {
		return d
	}
	return d*1_000_000/time.Duration(1_000_000+n.drift) + 1
}

type span struct{ from, to time.Time }

type simEvent struct {
	at  time.Time
	seq int
	do  func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].seq < q[j].seq
	}
	return q[i].at.Before(q[j].at)
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

var priorities = map[string]uint8{"r1": 200, "r2": 150, "r3": 100, "r4": 150, "r5": 50}

func newSim(t testing.TB, names ...string) *sim {
	t.Helper()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &sim{t: t, now: start, start: start, nodes: map[string]*simNode{}, dead: map[string]bool{}, slow: map[string]bool{}, every: 200 * time.Millisecond}
	for _, n := range names {
		s.nodes[n] = &simNode{
			s: s, name: n, links: map[string]Link{}, lost: map[string]bool{}, blind: map[string]bool{}, full: map[string]bool{},
			disk: "cable=2 nodes=" + strings.Join(names, ","),
		}
		cfg, err := simFile(n, s.nodes[n].disk)
		if err != nil {
			t.Fatal(err)
		}
		s.nodes[n].cfg = cfg
	}
	return s
}

// simFile reads a file such as "cable=2 nodes=r1,r2": the weight of an uplink,
// and the nodes; "preempt=off", "rise=5" and "hold=10s" of probes, "only" one
// uplink, "lab" one lan more, "sync=60s" replicates flows; "bad" is none that can be read.
func simFile(node, text string) (Config, error) {
	c := Config{
		Cluster: "home", Node: node, Version: "test", Hash: "hash of " + text, Text: []byte(text),
		VRID: 51, VRRPVersion: 3, Advertise: 100 * time.Millisecond, Preempt: true, PreemptDelay: 2 * time.Second,
		Balancer: balancer.Config{
			Lans: []balancer.Lan{
				{Name: "office", Device: "lan0", Virtual: prefixes("192.168.77.1/24")},
				{Name: "guests", Device: "lan1", Virtual: prefixes("192.168.78.1/24")},
			},
			Uplinks: []balancer.Uplink{
				{Name: "cable", ID: 1, Device: "wan1", Gateway: addr("203.0.113.1"), Virtual: prefixes("203.0.113.10/25"), Weight: 2, Tier: 1},
				{Name: "dsl", ID: 2, Device: "wan2", Gateway: addr("203.0.113.129"), Virtual: prefixes("203.0.113.140/25"), Weight: 1, Tier: 1},
			},
			Policies: []balancer.Policy{{Name: "default", Method: balancer.Weighted}},
			MarkMask: 0x3f00, TableBase: 7000, RulePriority: 7000,
		},
		Probes: map[string]balancer.ProbeConfig{"cable": {Fall: 3, Rise: 2}, "dsl": {Fall: 3, Rise: 2}},
	}
	for _, word := range strings.Fields(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "cable":
			fmt.Sscan(value, &c.Balancer.Uplinks[0].Weight)
		case "back": // all flows on the first uplink, and back to it
			c.Balancer.Policies = []balancer.Policy{{Name: "default", Method: balancer.Priority, Move: value == "move"}}
		case "preempt":
			c.Preempt = value == "on"
		case "advertise":
			d, err := time.ParseDuration(value)
			if err != nil {
				return c, err
			}
			c.Advertise = d
		case "version": // of VRRP; 2 counts seconds
			fmt.Sscan(value, &c.VRRPVersion)
			if c.VRRPVersion == 2 {
				c.Advertise = 2 * time.Second
			}
		case "rise":
			var n int
			fmt.Sscan(value, &n)
			c.Probes = map[string]balancer.ProbeConfig{"cable": {Fall: 3, Rise: n}, "dsl": {Fall: 3, Rise: n}}
		case "hold": // of uplinks that flap
			d, _ := time.ParseDuration(value)
			for name, p := range c.Probes {
				p.FlapHold, p.FlapMax = d, 30*d
				c.Probes[name] = p
			}
		case "latency": // from which uplinks are degraded
			d, _ := time.ParseDuration(value)
			for name, p := range c.Probes {
				p.Latency = balancer.Limit[time.Duration]{Degraded: d, Clear: d / 2}
				c.Probes[name] = p
			}
		case "hello": // on each lan
			c.Hello = true
		case "feel": // machines are asked whether they run
		case "lab": // one more lan, on lan2
			c.Balancer.Lans = append(c.Balancer.Lans, balancer.Lan{Name: "lab", Device: "lan2", Virtual: prefixes("192.168.79.1/24")})
		case "nat": // the second uplink's address
			c.Balancer.Uplinks[1].Virtual = prefixes(value)
		case "id":
			fmt.Sscan(value, &c.Balancer.Uplinks[1].ID)
		case "mask":
			fmt.Sscan(value, &c.Balancer.MarkMask)
		case "name":
			c.Balancer.Uplinks[1].Name = value
			c.Probes[value] = c.Probes["dsl"]
		case "sync": // flows are replicated; with the time to wait for them
			d, err := time.ParseDuration(value)
			if err != nil {
				return c, err
			}
			c.Sync, c.SyncTimeout = true, d
		case "one": // addresses with a MAC of their own
			c.OneHolder = true
		case "unsynced": // a better node does not wait for ever
			c.PreemptUnsynced = true
		case "delay": // before a better node claims the role
			d, err := time.ParseDuration(value)
			if err != nil {
				return c, err
			}
			c.PreemptDelay = d
		case "check": // runs as often as probes
			c.Check = CheckConfig{Command: []string{value}, Rise: 2, Fall: 3}
		case "single": // one lan
			c.Balancer.Lans = c.Balancer.Lans[:1]
		case "method": // of the default policy; lines of 10 Mbit/s
			m, err := balancer.ParseMethod(value)
			if err != nil {
				return c, err
			}
			p := &c.Balancer.Policies[0]
			p.Method, p.Overflow = m, balancer.OverflowLimits{Enter: 0.9, Leave: 0.75, Hold: 2 * time.Second}
			p.Margin = balancer.LatencyMargin{Percent: 10, Time: 5 * time.Millisecond, Rounds: 3}
			for i := range c.Balancer.Uplinks {
				c.Balancer.Uplinks[i].Speed = balancer.Load{Down: 10e6, Up: 10e6}
			}
		case "only": // one uplink
			c.Balancer.Uplinks = c.Balancer.Uplinks[:1]
		case "nodes":
			for _, n := range strings.Split(value, ",") {
				if n == "" {
					return c, fmt.Errorf("nodes=%s", value)
				}
				c.Nodes = append(c.Nodes, Node{Name: n, Address: addr("192.0.2." + n[1:]), Priority: priorities[n]})
			}
		default:
			return c, fmt.Errorf("%q is no key", key)
		}
	}
	if _, ok := c.node(node); !ok {
		return c, fmt.Errorf("the file has no node %s", node)
	}
	return c, nil
}

// all are the nodes in the order of their names, so that a seed tells the same
// story each time.
func (s *sim) all() []*simNode {
	if len(s.sorted) != len(s.nodes) {
		s.sorted = nil
		for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
			s.sorted = append(s.sorted, s.nodes[name])
		}
	}
	return s.sorted
}

// seen tells the machine what is in the file on disk.
func (n *simNode) seen() { n.handle(FileSeen{Hash: "hash of " + n.disk}) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{at: s.now.Add(d), seq: s.seq, do: do})
}

// run lets d pass.
func (s *sim) run(d time.Duration) {
	end := s.now.Add(d)
	for len(s.queue) > 0 && !s.queue[0].at.After(end) {
		ev := heap.Pop(&s.queue).(simEvent)
		s.now = ev.at
		ev.do()
	}
	s.now = end
}

// boot starts nodes whose links all carry.
func (s *sim) boot(names ...string) {
	for _, name := range names {
		n := s.nodes[name]
		n.life++
		n.turned = false
		n.ran = nil
		n.running, n.exit, n.answers = true, nil, map[uint64]string{}
		n.sources = map[string]Source{}
		if n.accepted == "" {
			n.accepted = n.disk
		}
		known := n.cfg.Known
		n.cfg, _ = simFile(n.name, n.accepted)
		n.cfg.Generation, n.cfg.Maintenance, n.cfg.Refused, n.cfg.Known = n.gen, n.rests, n.refused, known
		n.cfg.Crashes = s.crashes[name]
		n.cfg.Switches = n.switches
		n.cfg.Will = [32]byte{name[1], byte(n.life), 1} // random
		n.m = NewMachine(n.cfg, n.clock())
		last := name[1:]
		n.links = map[string]Link{}
		for device, a := range map[string]string{"lan0": "192.168.77.10", "lan1": "192.168.78.10", "wan1": "203.0.113.2", "wan2": "203.0.113.13"} {
			bits := 24
			if device[0] == 'w' {
				bits = 25
			}
			n.links[device] = Link{Present: true, Carrier: true, Addresses: []netip.Prefix{netip.PrefixFrom(addr(a+last), bits)}}
		}
		if n.holds {
			n.handle(Found{Addresses: 4})
		}
		n.linksChanged()
		n.seen()
		n.probe()
		n.greet()
		n.flows.start(n)
	}
}

func (n *simNode) linksChanged() {
	devices := map[string]Link{}
	for d, l := range n.links {
		devices[d] = l
	}
	n.handle(Links{Devices: devices, Gateways: map[string]netip.Addr{}})
}

func (n *simNode) carrier(device string, on bool) {
	l := n.links[device]
	l.Carrier = on
	n.links[device] = l
	n.linksChanged()
}

// tick wakes the machine when it wants to be, as the loop does.
func (n *simNode) tick() {
	n.alarm++
	turn, life := n.alarm, n.life
	n.s.after(max(n.takes(n.m.Deadline(n.clock()).Sub(n.clock())), time.Millisecond), func() {
		if n.alarm == turn && n.life == life { // nothing else woke it since
			n.handle(Tick{})
		}
	})
}

func (n *simNode) probe() {
	life := n.life
	n.s.after(n.s.every, func() {
		if n.life == life && n.running {
			for _, u := range []string{"cable", "dsl"} {
				n.handle(n.round(u))
			}
			if c := n.m.cfg.Check.Command; c != nil {
				n.handle(CheckRan{Command: c, Failed: n.ails})
			}
			n.probe()
		}
	})
}

// round is what a round of probes finds.
func (n *simNode) round(uplink string) Probed {
	device := map[string]string{"cable": "wan1", "dsl": "wan2"}[uplink]
	return Probed{Round: balancer.Round{Uplink: uplink, At: n.clock(), Good: !n.s.dead[uplink] && !n.blind[uplink] && n.links[device].Carrier, Carries: n.full[uplink], RTT: n.s.rtt(uplink)}}
}

func (s *sim) kill(uplink string, dead bool) { s.dead[uplink] = dead }

func (s *sim) rtt(uplink string) time.Duration {
	if s.slow[uplink] {
		return 500 * time.Millisecond
	}
	return time.Millisecond
}

// power cuts a node off at once.
func (s *sim) power(name string) {
	n := s.nodes[name]
	n.running, n.repeat = false, Advertise{}
	n.turn++
	n.hold(false)
}

// stop makes a node stand still, and its guard take the role away; resume lets
// it go on.
func (n *simNode) stop() {
	n.stopped, n.repeat = true, Advertise{}
	n.turn++
	n.hold(false)
}

func (n *simNode) resume() {
	n.stopped = false
	n.handle(Fenced{})
	n.handle(Overslept{For: 3 * time.Second})
	for _, ev := range n.waits {
		n.handle(ev)
	}
	n.waits = nil
}

func (n *simNode) hold(on bool) {
	if on == n.holds {
		return
	}
	n.holds = on
	if n.s.chaos != nil {
		defer n.s.chaos.holders()
	}
	if on {
		n.held = append(n.held, span{from: n.s.now})
	} else {
		n.held[len(n.held)-1].to = n.s.now
	}
}

func (n *simNode) handle(ev Event) {
	if !n.running {
		return
	}
	if n.s.chaos != nil && n.s.chaos.defers(n, ev) {
		return
	}
	if n.stopped {
		if told, ok := ev.(Told); ok && told.Message.Kind != KindCancel { // gossip has given it up by then
			n.waits = append(n.waits, told)
		}
		return
	}
	for _, a := range n.m.Handle(ev, n.clock()) {
		n.perform(a)
	}
	if n.s.chaos != nil {
		n.s.chaos.handled(n, ev)
	}
	n.tick()
}

func (n *simNode) perform(a Action) {
	s, life := n.s, n.life
	if s.chaos != nil && s.chaos.perform(n, a) {
		return
	}
	later := func(d time.Duration, do func()) {
		s.after(d, func() {
			if n.life == life && n.running {
				do()
			}
		})
	}
	switch a := a.(type) {
	case Advertise:
		n.repeat = a
		n.turn++
		n.advertise(n.turn)
	case Silence:
		n.repeat = Advertise{}
		n.turn++
	case Once:
		n.send(a.Priority)
	case TakeFlows:
		n.flows.take(a.Term)
	case YieldFlows:
		n.flows.yield(a.Term)
	case FlushFlows:
		n.flows.flush(a)
	case AddAddresses:
		n.flows.behind(func() {
			if n.flows.void < a.Seq {
				n.flows.note("add")
				n.hold(true)
			}
			n.handle(Switched{Seq: a.Seq})
		})
	case Ready:
		n.flows.behind(func() { n.handle(Switched{Seq: a.Seq}) })
	case RemoveAddresses:
		n.flows.void = a.Seq
		n.flows.until = s.now // ends a Take
		n.flows.behind(func() { n.flows.note("remove"); n.hold(false); n.handle(Switched{Seq: a.Seq}) })
	case WatchForwarding:
		for d := 100 * time.Millisecond; d <= a.For; d += 100 * time.Millisecond {
			later(d, func() {
				if s.now.Before(n.passes) {
					n.handle(Forwarded{})
				}
			})
		}
	case Activate:
		n.active, n.turned = a.Active, true
		if a.Grace {
			n.graced = s.now
		}
	case ApplyPlan:
		if !n.turned { // the plan's word counts until the switch was turned
			n.active = a.Plan.Active
		}
		n.applied++
		n.lastPlan = a.Plan
		later(simWork, func() {
			n.inKernel = a.Seq
			n.handle(Applied{Seq: a.Seq})
		})
	case ReadFile:
		text := n.disk
		switch {
		case a.Text != nil:
			text = string(a.Text)
		case a.Add != nil:
			text = string(n.m.cfg.Text) + "," + a.Add.Name
		case a.Remove != "":
			text = strings.NewReplacer(","+a.Remove, "", a.Remove+",", "").Replace(string(n.m.cfg.Text))
		}
		later(simWork, func() {
			c := Checked{ID: a.ID, Text: []byte(text), Hash: "hash of " + text}
			if _, err := simFile(n.name, text); err != nil {
				c.Err = err.Error()
			}
			n.handle(c)
		})
	case Adopt:
		cfg, err := simFile(n.name, string(a.Text))
		if err != nil {
			s.t.Fatal(err)
		}
		cfg.Generation = a.Generation
		later(simWork, func() {
			if a.Replace != "" && a.Replace == "hash of "+n.disk {
				n.disk = string(a.Text)
			}
			n.refused = ""
			if a.Trial {
				n.refused = cfg.Hash
			} else {
				n.accepted, n.gen = string(a.Text), a.Generation
			}
			n.cfg = cfg
			n.ran = append(n.ran, string(a.Text))
			n.handle(Reconfigured{Config: cfg})
			n.seen()
			if n.looks == 0 {
				return
			}
			later(n.looks, func() {
				n.links["lan2"] = Link{Present: true, Carrier: !n.lab, Addresses: prefixes("192.168.79.1" + n.name[1:] + "/24")}
				n.linksChanged()
			})
		})
	case Rest:
		later(simWork, func() {
			ev := Rested{ID: a.ID}
			if n.noRoom {
				ev.Err = errors.New("no space left on device")
			} else {
				n.rests = a.On
			}
			n.handle(ev)
		})
	case KeepSwitches:
		var err error
		if n.noRoom {
			err = errors.New("no space left on device")
		} else {
			n.switches = a.Switches
		}
		if a.ID != 0 {
			later(simWork, func() { n.handle(SwitchesKept{ID: a.ID, Err: err}) })
		}
	case DeleteFlows:
		n.deleted = append(n.deleted, a.Uplink)
		n.marks = append(n.marks, balancer.Mark(a.ID, a.Mask))
		if a.Tell {
			n.toldOf = append(n.toldOf, a.Uplink)
		}
	case MoveFlows:
		n.moved++
	case DropAddresses:
		if n.inKernel != n.m.planSeq {
			s.t.Errorf("%s ends the flows of %v while its kernel still leads what comes there inside", n.name, a.Addresses)
		}
		for _, gone := range a.Addresses {
			n.dropped = append(n.dropped, gone.String())
		}
	case Source:
		if a.Now && n.sources[a.Uplink] == a { // nothing is new but the wish
			later(s.rtt(a.Uplink), func() { n.handle(n.round(a.Uplink)) })
		}
		n.sources[a.Uplink] = a
	case Look:
		n.look(a)
	case Pulse:
		n.feel(a)
	case Publish:
		n.greeting = a.State
		n.hello()
		state, err := DecodePeerState(a.State.Encode())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, o := range s.all() {
			if o != n && !o.lost[n.name] && knows(n, o) {
				s.after(simDelay, func() { o.handle(PeerTold{State: state}) })
			}
		}
	case Send:
		msg, err := DecodeMessage(a.Message.Encode())
		if err != nil {
			s.t.Fatal(err)
		}
		if msg.Kind == KindHandover {
			n.flows.note("handover")
		}
		if a.Wide {
			n.tellWide(a.To, msg)
		}
		_, known := n.m.cfg.node(a.To) // gossip speaks to none that is not in the file
		if o := s.nodes[a.To]; known && !o.lost[n.name] && !(s.noDone && msg.Kind == KindDone) && msg.Kind != s.mute {
			s.after(simDelay, func() { o.handle(Told{From: n.name, Message: msg}) })
		}
	case SendTo:
		msg, err := DecodeMessage(a.Message.Encode())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, o := range s.all() {
			after := []time.Duration{simDelay}
			if _, known := o.cfg.node(n.name); o == n || addr("192.0.2."+o.name[1:]) != a.To || !known {
				continue
			}
			if s.chaos != nil {
				after = s.chaos.wire(n, o, true)
			}
			life := o.life
			for _, d := range after {
				s.after(d, func() {
					if o.life == life && !o.lost[n.name] {
						o.handle(Told{From: n.name, Message: msg})
					}
				})
			}
		}
	case Guard:
		n.guard = a
	case Answer:
		n.answers[a.ID] = a.Error
	case Record:
		s.log = append(s.log, fmt.Sprintf("%8v %s %s %s %s->%s %s", s.now.Sub(s.start), n.name, a.Kind, a.Subject, a.From, a.To, a.Reason))
	case Exit:
		n.exit = &a
		for _, o := range s.nodes {
			if o != n && !o.lost[n.name] {
				s.after(simDelay, func() { o.handle(PeerLost{Node: n.name}) })
			}
		}
		n.running, n.repeat = false, Advertise{}
		n.turn++
		s.after(simWork, func() {
			if n.exit != nil && !n.exit.Keep {
				n.hold(false)
			}
		})
	}
}

func (n *simNode) advertise(turn int) {
	if n.turn != turn || n.repeat.Interval == 0 || !n.running {
		return
	}
	if n.s.chaos == nil || !n.s.chaos.mute(n) {
		n.send(n.repeat.Priority)
	}
	n.s.after(n.takes(n.repeat.Interval), func() { n.advertise(turn) })
}

// send carries an advert over each lan that both ends reach, and over the
// direct cable.
func (n *simNode) send(priority uint8) {
	n.adverts++
	own, _ := n.cfg.node(n.name)
	ad := vrrp.Advert{Version: vrrp.Version(n.cfg.VRRPVersion), VRID: 51, Priority: priority, Interval: n.cfg.Advertise}
	for _, o := range n.s.all() {
		if o == n {
			continue
		}
		deliver := func(link string, src netip.Addr) {
			after := []time.Duration{simDelay}
			if n.s.chaos != nil {
				after = n.s.chaos.advert(n, o, link)
			}
			for _, d := range after {
				n.s.after(d, func() {
					o.hearAsGuard(priority)
					if reason := (vrrp.Terms{Version: vrrp.Version(o.cfg.VRRPVersion), Interval: o.cfg.Advertise}).Refuse(ad); reason != "" {
						o.handle(Dropped{Part: "vrrp", Reason: string(reason), Source: src})
						return
					}
					o.handle(Advert{Link: link, Source: src, Advert: ad})
				})
			}
		}
		if n.links["lan0"].Carrier && o.links["lan0"].Carrier && !o.deaf && !o.muffled && !n.s.lans.cut(n, o, "office", true) {
			deliver("office", n.links["lan0"].Addresses[0].Addr())
		}
		if n.cfg.Hello && n.links["lan1"].Carrier && o.links["lan1"].Carrier && !o.muffled && !n.s.lans.cut(n, o, "guests", true) {
			deliver("guests", n.links["lan1"].Addresses[0].Addr())
		}
		// One that was taken out is sent none. A newcomer that is not known yet is, over
		// the lan say: else greetings alone tell it of a node whose disk is full.
		if _, known := n.cfg.node(o.name); (known || n.cfg.Generation <= o.cfg.Generation) && !o.lost[n.name] && !o.muffled {
			deliver("", own.Address)
		}
	}
}

// word is what a node's guard tells the successor.
func (n *simNode) word() {
	o, will := n.s.nodes[n.guard.Heir], n.guard.Will
	if o == nil || o.lost[n.name] {
		return
	}
	n.s.after(simDelay, func() { o.handle(Told{From: n.name, Message: Message{Kind: KindFenced, Will: will}}) })
}

// hearAsGuard does what the guard of a node that left alone does.
func (n *simNode) hearAsGuard(priority uint8) {
	if !n.running && n.exit != nil && n.exit.Keep && priority > 0 {
		n.hold(false)
	}
}

// partition cuts, or mends, every path between two nodes.
func (s *sim) partition(a, b string, on bool) {
	s.nodes[a].lost[b], s.nodes[b].lost[a] = on, on
	s.nodes[a].deaf, s.nodes[b].deaf = on, on
}

func (s *sim) master(want string) {
	s.t.Helper()
	var got []string
	for name, n := range s.nodes {
		if n.running && n.m.Role() == RoleMaster {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	if strings.Join(got, "+") != want {
		s.t.Fatalf("at %v master is %v, want %s\n%s", s.now.Sub(s.start), got, want, strings.Join(s.log, "\n"))
	}
}

// coverage tells, from a time on, how long nobody and how long more than one
// held the addresses.
func (s *sim) coverage(from time.Time) (none, double time.Duration) {
	edges := []time.Time{from, s.now}
	for _, n := range s.nodes {
		for _, h := range n.held {
			edges = append(edges, h.from, h.to)
		}
	}
	edges = slices.DeleteFunc(edges, func(at time.Time) bool { return at.Before(from) || at.After(s.now) })
	slices.SortFunc(edges, time.Time.Compare)
	for i, at := range edges[:len(edges)-1] {
		holders := 0
		for _, n := range s.nodes {
			for _, h := range n.held {
				if !at.Before(h.from) && (h.to.IsZero() || at.Before(h.to)) {
					holders++
				}
			}
		}
		switch d := edges[i+1].Sub(at); {
		case holders == 0:
			none += d
		case holders > 1:
			double += d
		}
	}
	return none, double
}

func (s *sim) command(node string, verb Verb, to string) func() (string, bool) {
	n := s.nodes[node]
	s.seq++
	id := uint64(s.seq)
	n.handle(Command{ID: id, Verb: verb, Args: Args{To: to}})
	return func() (string, bool) { text, ok := n.answers[id]; return text, ok }
}
