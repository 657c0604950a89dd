package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"harouter/balancer"
	"harouter/balancer/dataplane"
	"harouter/conntracksync"
	"harouter/conntracksync/kernel"
	"harouter/conntracksync/peer"
	"harouter/conntracksync/replica"
	"harouter/ha"
)

// buildReplica makes the replication of flows and the sessions that it needs.
func (d *daemon) buildReplica(s *settings) (err error) {
	d.replica = replica.New(replica.Config{
		Node: s.node, Boot: uint64(time.Now().UnixNano()), Ready: d.planned, Open: d.openTable,
		Sessions: &syncSessions{d: d}, Settings: d.replicated(s), Log: d.log.part("conntracksync"),
		Report: func(node string, state conntracksync.PeerState) {
			d.loop.Post(ha.Synced{Node: node, State: syncState(state)})
		},
		Heard: d.heard,
		Limit: d.holds,
	})
	d.sessions, err = peer.New(d.sessionConfig(s))
	return err
}

// heard tells when another node was heard last, by whatever.
func (d *daemon) heard(ctx context.Context, node string) time.Time {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	now := time.Now()
	s, err := d.loop.Status(ctx)
	if err != nil { // it may live: its flows are not let go for that
		return now
	}
	for _, n := range s.Nodes {
		if n.Name == node && n.HeardMS != nil {
			return now.Add(-time.Duration(*n.HeardMS) * time.Millisecond)
		}
	}
	return time.Time{}
}

// holds notes how many connections another node can hold.
func (d *daemon) holds(node string, flows int) {
	d.capacity.Store(node, flows)
	if _, here, err := kernel.TableUse(); err == nil && flows < here && flows > 0 {
		d.log.part("conntracksync").Warn("the other node can hold fewer connections than this one: set conntrack_sync.table_size, or net.netfilter.nf_conntrack_max to the same on all nodes",
			"node", node, "there", flows, "here", here)
	}
}

// sessionConfig is also that of the port which new routers use to join.
func (d *daemon) sessionConfig(s *settings) peer.Config {
	c := peer.Config{
		Node: s.node, Addresses: s.sync(), Peers: map[string][]netip.AddrPort{}, Seeds: d.key.DeriveAll("sync v1"), Frames: conntracksync.Version,
		Handler: syncHandler{d.replica}, Log: d.log.part("conntracksync"),
		Other: func(alpn string) (*tls.Config, func(context.Context, net.Conn)) {
			if cfg, ours := d.join.TLS(); alpn == ours && d.join.Open() {
				return cfg, d.join.Serve
			}
			return nil, nil
		},
		Heard: func(node string) { d.loop.Post(ha.PeerSeen{Node: node}) },
		Drop: func(reason peer.Reason, source netip.Addr) {
			d.loop.Post(ha.Dropped{Part: "sync", Reason: string(reason), Source: source})
		},
		Taken: func(at netip.AddrPort, text string) {
			d.loop.Post(ha.Condition{Code: ha.AlarmUnsynced, Subject: "port " + at.String(), On: text != "", Text: text + "; until then no connections come from other nodes"})
		},
	}
	if !s.file.ConntrackSync.Enabled {
		return c
	}
	for name, as := range s.peers() {
		for _, a := range as {
			c.Peers[name] = append(c.Peers[name], netip.AddrPortFrom(a, s.file.Ports.Sync))
		}
	}
	return c
}

// protocols are those of the file, as numbers.
var protocols = map[string]conntracksync.Protocol{
	"tcp": conntracksync.TCP, "udp": conntracksync.UDP, "icmp": conntracksync.ICMP,
	"sctp": conntracksync.SCTP, "gre": conntracksync.GRE,
}

// replicated are the flows that are told: not those of this node itself, and none
// where the file names no other node. To hear of them all the same would be a
// tenth of the work of a new connection.
func (d *daemon) replicated(s *settings) replica.Settings {
	c := s.file.ConntrackSync
	out := replica.Settings{Enabled: c.Enabled && len(s.file.Nodes) > 1, Ignore: slices.Clone(c.Ignore)}
	for _, p := range c.Protocols {
		out.Protocols = append(out.Protocols, protocols[p])
	}
	v := s.vip()
	for _, a := range v.Addresses {
		out.Local = append(out.Local, a.Prefix.Addr())
	}
	ignore := func(a netip.Addr) {
		if p := netip.PrefixFrom(a, a.BitLen()); !slices.Contains(out.Local, a) && !slices.Contains(out.Ignore, p) {
			out.Ignore = append(out.Ignore, p)
		}
	}
	for _, n := range s.file.Nodes {
		for _, a := range n.Addresses {
			ignore(a)
		}
	}
	for _, addresses := range []*[]netip.Addr{d.own.Load(), d.others.Load()} {
		if addresses != nil {
			for _, a := range *addresses {
				ignore(a)
			}
		}
	}
	return out
}

// knowOthers takes the other nodes' own addresses: what they begin through the
// master is theirs alone.
func (d *daemon) knowOthers(known map[string][]netip.Addr) {
	var out []netip.Addr
	for _, addresses := range known {
		out = append(out, addresses...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	d.others.Store(&out)
}

// ownAddresses are all that the devices have.
func ownAddresses(l ha.Links) *[]netip.Addr {
	var out []netip.Addr
	for _, link := range l.Devices {
		for _, p := range link.Addresses {
			out = append(out, p.Addr())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return &out
}

// configureReplica tells which flows are replicated now.
func (d *daemon) configureReplica(s *settings) {
	d.configuring.Lock()
	defer d.configuring.Unlock()
	r := d.replicated(s)
	if d.told == nil || !equalSettings(*d.told, r) {
		d.told = &r
		d.unheard.set(d, r.Ignore) // before: of what is told from now on nothing may be missed
		d.replica.Configure(r)
	}
}

func equalSettings(a, b replica.Settings) bool {
	return a.Enabled == b.Enabled && slices.Equal(a.Protocols, b.Protocols) && slices.Equal(a.Ignore, b.Ignore) && slices.Equal(a.Local, b.Local)
}

// firstPlan tells when the rules are in the kernel: without its NAT chains the
// kernel would not translate the flows that are installed.
type firstPlan struct {
	*dataplane.Kernel
	once sync.Once
	done chan struct{}
	d    *daemon
}

func (p *firstPlan) Apply(ctx context.Context, plan balancer.Plan) error {
	err := p.Kernel.Apply(ctx, plan)
	if err == nil {
		p.once.Do(func() {
			// Also where nobody listens yet: a node that joins later wants to know
			// when what begins now ends.
			if p.d.settings().file.ConntrackSync.Enabled {
				if err := kernel.AlwaysTell(); err != nil {
					p.d.log.part("conntracksync").Warn("connections that begin now may end in silence", "error", err)
				}
			}
			close(p.done)
		})
	}
	return err
}

// flowTable is the kernel's table as replica.Kernel.
type flowTable struct {
	injector *kernel.Injector
	listener *kernel.Listener
	listened bool
}

// eventBuffer is the memory for events that wait: 80,000 of them. The kernel
// takes it only while they do.
const eventBuffer = 32 << 20

// tableSize has the kernel's table hold what the file says, and returns that, or
// else what it holds.
func (d *daemon) tableSize(s *settings) (int, error) {
	n := s.file.ConntrackSync.TableSize
	if n == 0 || !s.file.ConntrackSync.Enabled {
		_, size, err := kernel.TableUse()
		return size, err
	}
	if err := kernel.Resize(n); err != nil {
		d.log.part("conntracksync").Warn("conntrack_sync.table_size", "error", err)
	}
	return n, nil
}

func (d *daemon) openTable(h replica.Hear) (replica.Kernel, int, conntracksync.Timeouts, error) {
	var none conntracksync.Timeouts
	size, err := d.tableSize(d.settings())
	if err != nil {
		return nil, 0, none, err
	}
	timeouts, err := kernel.ReadTimeouts()
	if err != nil {
		return nil, 0, none, err
	}
	if err := kernel.AlwaysTell(); err != nil {
		return nil, 0, none, err
	}
	i, err := kernel.NewInjector()
	if err != nil {
		return nil, 0, none, err
	}
	l, err := kernel.NewListener(eventBuffer, i.Port(), kernel.Handler{
		Event: h.Event, Idle: h.Idle, Overrun: h.Overrun,
		Broken: func(err error) { d.log.part("conntracksync").Debug("an event of the connection table", "error", err) },
	})
	if err != nil {
		return nil, 0, none, errors.Join(err, i.Close())
	}
	d.unheard.listen(d, l)
	return &flowTable{injector: i, listener: l}, size, timeouts, nil
}

// unheard has the kernel wake nobody up for connections that are not
// replicated: an idle node's own probes are several a second.
type unheard struct {
	mu        sync.Mutex
	listener  *kernel.Listener // nil before the table was open once
	addresses []netip.Addr
}

// listen takes the listener that is open now.
func (u *unheard) listen(d *daemon, l *kernel.Listener) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.listener = l
	u.settle(d)
}

// set takes the networks whose connections are not replicated.
func (u *unheard) set(d *daemon, networks []netip.Prefix) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.addresses = nil
	for _, n := range networks {
		if n.IsSingleIP() {
			u.addresses = append(u.addresses, n.Addr())
		}
	}
	u.settle(d)
}

func (u *unheard) settle(d *daemon) {
	if u.listener == nil {
		return
	}
	if err := u.listener.Ignore(u.addresses); err != nil {
		d.log.part("conntracksync").Warn("connections of this node itself cost more than they need", "error", err)
	}
}

func (t *flowTable) Do(ctx context.Context, a conntracksync.Action) (n int, taken []conntracksync.Flow, err error) {
	var refused []kernel.Refused
	switch a := a.(type) {
	case *conntracksync.Install:
		refused, err = t.injector.Install(ctx, a.Flows)
		taken = without(a.Flows, refused)
	case *conntracksync.Update:
		refused, err = t.injector.Update(ctx, a.Flows)
		taken = without(a.Flows, refused)
	case *conntracksync.SetTimeouts:
		refused, err = t.injector.SetTimeouts(ctx, a.Flows)
	case *conntracksync.Remove:
		refused, err = t.injector.Delete(ctx, a.Flows)
	case *conntracksync.Expect:
		refused, err = t.injector.Expect(ctx, a.Expectations)
	case *conntracksync.Unexpect:
		refused, err = t.injector.Unexpect(ctx, a.Expectations)
	case *conntracksync.Read:
		err = t.injector.Read(ctx, a.Flows)
	default:
		err = fmt.Errorf("an action that is none of the kernel's: %T", a)
	}
	return len(refused), taken, err
}

// without are the flows whose place another one has.
func without(flows []conntracksync.Flow, refused []kernel.Refused) (taken []conntracksync.Flow) {
	for _, r := range refused {
		if errors.Is(r.Err, kernel.ErrTaken) {
			taken = append(taken, flows[r.Index])
		}
	}
	return taken
}

func (t *flowTable) Dump(ctx context.Context, restart func(), each func(*conntracksync.Flow), expected func(*conntracksync.Expectation)) error {
	if err := kernel.Dump(ctx, kernel.Filter{}, restart, each); err != nil {
		return err
	}
	// Told twice is as good as once.
	return kernel.DumpExpectations(ctx, func() {}, expected)
}

func (t *flowTable) Listen(ctx context.Context) error {
	t.listened = true
	return t.listener.Run(ctx)
}

func (t *flowTable) Close() error {
	if t.listened { // which has closed it
		return t.injector.Close()
	}
	return errors.Join(t.listener.Close(), t.injector.Close())
}

// syncSessions are the sessions as replica.Sessions.
type syncSessions struct{ d *daemon }

func (s *syncSessions) Send(node string, frame []byte) bool { return s.d.sessions.Send(node, frame) }

func (s *syncSessions) Restart(node string, err error) {
	reason := peer.ReasonGarbage
	switch {
	case errors.Is(err, conntracksync.ErrVersion):
		reason = peer.ReasonVersion
	case errors.Is(err, replica.ErrOverflow):
		reason = peer.ReasonOverflow
	}
	s.d.sessions.Restart(node, reason, err)
}

func (s *syncSessions) Barrier(ctx context.Context, node string) error {
	return s.d.sessions.Barrier(ctx, node)
}

func (s *syncSessions) Behind(node string) (time.Duration, bool) {
	lag, ok := s.d.sessions.Lag(node)
	return lag.RoundTrip/2 + lag.Behind, ok
}

// syncHandler hands what the sessions bring to the replica.
type syncHandler struct{ r *replica.Replica }

func (h syncHandler) Up(node string, _ netip.AddrPort)         { h.r.Up(node) }
func (h syncHandler) Down(node string, _ peer.Reason, _ error) { h.r.Down(node) }
func (h syncHandler) Frame(node string, frame []byte, more bool) {
	h.r.Frame(node, frame, more)
}
func (h syncHandler) Overflow(node string) { h.r.Overflow(node) }

func syncState(s conntracksync.PeerState) ha.SyncState {
	switch s {
	case conntracksync.Connecting:
		return ha.SyncConnecting
	case conntracksync.Syncing:
		return ha.SyncSyncing
	case conntracksync.Synced:
		return ha.SyncSynced
	case conntracksync.Stale:
		return ha.SyncStale
	}
	return ha.SyncOff
}

// statusLimit bounds how long a status waits for a table that is being written.
const statusLimit = 500 * time.Millisecond

// syncStatus adds what the replication knows.
func (d *daemon) syncStatus(ctx context.Context, s *ha.Status) {
	for reason, n := range d.sessions.Counters() {
		if s.Drops.Sync == nil {
			s.Drops.Sync = map[string]uint64{}
		}
		s.Drops.Sync[string(reason)] = n
	}
	if !d.settings().file.ConntrackSync.Enabled {
		for i := range s.ConntrackSync.Peers { // what it was before a reload
			s.ConntrackSync.Peers[i].State = ha.SyncOff
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	r, err := d.replica.Status(ctx)
	if err != nil {
		return
	}
	for i := range s.ConntrackSync.Peers {
		p := &s.ConntrackSync.Peers[i]
		p.State, p.Dropped = ha.SyncConnecting, maps.Clone(r.Dropped)
		for _, one := range r.Peers {
			if one.Node != p.Name {
				continue
			}
			here, there := uint64(one.Here), uint64(one.There)
			p.State, p.FlowsHere, p.FlowsThere, p.Resyncs = syncState(one.State), &here, &there, uint64(one.Resyncs)
			p.Progress = one.Progress
			if one.Lag != nil {
				ms := float64(*one.Lag) / float64(time.Millisecond)
				p.LagMS = &ms
			}
			maps.Copy(p.Dropped, one.Dropped)
		}
	}
}
