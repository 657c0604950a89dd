package dataplane

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// Config says where to keep what was found before us, and who is told. The funcs
// must be quick and not call the Kernel.
type Config struct {
	StateDir string       // sysctl.json: the values before ours
	Log      *slog.Logger // nil: silent
	// MayRepair is asked before Run puts anything back: a node that overslept
	// first confirms its role. Nil: always.
	MayRepair func() bool
	// Repaired, if set, is told of each repair: "rule", "route", "table" or
	// "sysctl", and what was put back.
	Repaired func(kind, what string)
	// Fought, if set, is told when a fight with another program over a kind
	// begins and when it is over, with a sentence for people.
	Fought func(kind string, on bool, text string)
	// UserLost, if set, is told that what BeginUser and KeepUser enclosed is not in
	// the table any more, or that the table is new.
	UserLost func()
	// Lacks, if set, is told once what a plan asks for that this kernel has not, and
	// what is done instead.
	Lacks func(what, instead string)
}

// Kernel applies plans to the network namespace of this process. It is a Task
// that keeps what was applied last against other programs. Its methods may be
// called from any goroutine.
type Kernel struct {
	cfg     Config
	kick    chan struct{} // to Run: a plan was applied
	scope   atomic.Pointer[scope]
	waiting atomic.Pointer[[]balancer.Route]   // of the newest plan, those that wait
	races   atomic.Pointer[[]balancer.RaceSet] // of the plan that was applied last
	repairs counters
	buffer  int // bytes, of the sockets that listen

	// applying: one Apply, Prepare, Cleanup or look at a time.
	applying sync.Mutex
	nft      *nftables.Conn
	rules    *mdnetlink.Conn // for what the library reads badly
	routes   *netlink.Handle
	deaf     bool              // this kernel's nftables cannot ask for listening sockets
	noIPsec  bool              // nor does it know IPsec
	queue    queueing          // how this kernel lets packets wait, once that is known
	known    map[string]string // how the kernel tells our rules, by tag
	plan     *balancer.Plan    // applied last; nil: none
	index    map[string]int    // of the plan's devices
	wrote    wrote
	fights   [kinds]fight
	settings map[string]setting // the sysctls before ours; nil: not read yet
	unsaved  bool               // settings are not in the file
	warned   bool               // that they cannot be
	user     string             // print of what snippets put into our table; "": not kept
	tables   uint64             // how often the table was made, or the user's part was lost

	// The switch has a connection and a lock of its own, so that a takeover
	// never waits for a plan.
	switching  sync.Mutex
	flip       *nftables.Conn
	active     *bool     // as Activate said last; nil: never
	graceUntil time.Time // as Activate said last
}

// wrote is what we know to have been in the kernel: where it is not any more,
// somebody else took it away. Nil: nothing was written yet.
type wrote struct {
	rules   map[string]bool
	routes  map[string]laid
	sysctls map[string]string
	table   bool
}

// New opens what is needed; it changes nothing.
func New(cfg Config) (*Kernel, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MayRepair == nil {
		cfg.MayRepair = func() bool { return true }
	}
	k := &Kernel{
		cfg: cfg, kick: make(chan struct{}, 1), buffer: listenBuffer,
		known: map[string]string{}, index: map[string]int{}, fights: newFights(usualPace),
	}
	var err error
	if k.nft, err = openNft(); err != nil {
		return nil, err
	}
	if k.flip, err = openNft(); err != nil {
		return nil, err
	}
	if k.routes, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return k, nil
}

// openNft raises the socket's buffers: with the default ones a transaction of
// some hundred messages fails although it was carried out.
func openNft() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(n *mdnetlink.Conn) error {
		return errors.Join(n.SetReadBuffer(8<<20), n.SetWriteBuffer(8<<20), largeAnswers(n))
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return c, nil
}

// commit carries out what is queued. After an error nothing is known of what
// was done, and the connection is opened anew.
func commit(c **nftables.Conn) error {
	err := (*c).Flush()
	if err == nil {
		return nil
	}
	return errors.Join(err, reopen(c))
}

// reopen replaces a connection, and forgets what was queued on it.
func reopen(c **nftables.Conn) error {
	fresh, err := openNft()
	if err != nil {
		return err
	}
	_ = (*c).CloseLasting()
	*c = fresh
	return nil
}

// SkippedError is a part of a plan that cannot be in the kernel now, such as a
// route over a device that is missing or down. The rest of the plan is in place;
// a later Apply puts the part there.
type SkippedError struct {
	Item   string // the route as a command's words
	Reason string
	soon   bool // a matter of moments
}

func (e *SkippedError) Error() string { return fmt.Sprintf("left out %s: %s", e.Item, e.Reason) }

// OnlySkipped tells whether an error of Apply says no more than that some parts
// were left out, which is the normal state while a device is missing.
func OnlySkipped(err error) bool {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case nil, *SkippedError:
		return true
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			if !OnlySkipped(part) {
				return false
			}
		}
		return true
	}
	return false
}

// Apply makes the kernel agree with the plan: it reads, compares and writes the
// difference, the nft table in one transaction; what former plans had is gone
// after that. What cannot be there now is told as SkippedError and left out; all
// else is done. A way over an address that this node is about to give up is left
// to Run. The takeover switch stays as Activate set it last.
func (k *Kernel) Apply(ctx context.Context, p balancer.Plan) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	var waiting []balancer.Route
	for _, r := range p.Routes {
		if r.Waits {
			waiting = append(waiting, r)
		}
	}
	k.waiting.Store(&waiting)
	k.noticeDevices(&p)
	found, failed := k.pass(&p, allKinds, true)
	k.plan = &p
	k.races.Store(&p.Races)
	k.count(found, time.Now())
	failed = errors.Join(failed, k.leaveSysctls(&p))
	if isSoon(failed) {
		select {
		case k.kick <- struct{}{}:
		default:
		}
		failed = withoutSoon(failed)
	}
	return failed
}

// isSoon tells whether a part was left out that can be there in a moment.
func isSoon(err error) bool {
	for part := range parts(err) {
		if s, ok := part.(*SkippedError); ok && s.soon { //nolint:errorlint // a leaf
			return true
		}
	}
	return false
}

// withoutSoon is an error without those parts.
func withoutSoon(err error) error {
	var rest error
	for part := range parts(err) {
		if s, ok := part.(*SkippedError); !ok || !s.soon { //nolint:errorlint // a leaf
			rest = errors.Join(rest, part)
		}
	}
	return rest
}

// parts are the leaves of joined errors.
func parts(err error) iter.Seq[error] {
	return func(yield func(error) bool) { walk(err, yield) }
}

func walk(err error, yield func(error) bool) bool {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case nil:
		return true
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			if !walk(part, yield) {
				return false
			}
		}
		return true
	}
	return yield(err)
}

// inFlight is how long a packet may be between its mark, by the former table, and
// its route: without the former rules the main table would lead it to another
// uplink, with the wrong source. It takes microseconds, and longer where the
// processor that has it stands still.
const inFlight = 20 * time.Millisecond

// pass looks at some kinds, and if write makes them agree with the plan. Routes
// come before rules before marks, and go after them: a packet that carries a
// mark must find its way.
func (k *Kernel) pass(p *balancer.Plan, which kindSet, write bool) (found [kinds]difference, failed error) {
	var rules []netlink.Rule
	var routes []netlink.Route
	if which.has(kindSysctl) {
		found[kindSysctl] = k.passSysctls(p, false, write)
	}
	guarded := k.wrote.table
	open := func() {
		if which.has(kindSysctl) && k.wrote.table {
			found[kindSysctl].join(k.passSysctls(p, true, write))
		}
	}
	if guarded {
		open()
	}
	if which.has(kindRoute) {
		found[kindRoute], routes = k.passRoutes(p, write)
	}
	if which.has(kindRule) {
		found[kindRule], rules = k.passRules(p, write)
	}
	if which.has(kindTable) {
		found[kindTable] = k.passTable(p, write)
	}
	if !guarded { // before it all would be open, for a moment or as long as the table is refused
		open()
	}
	if write && found[kindTable].err == nil { // else the former table's marks still lead there
		if len(rules)+len(routes) > 0 {
			time.Sleep(inFlight)
		}
		found[kindRule].err = errors.Join(found[kindRule].err, k.removeRules(rules))
		found[kindRoute].err = errors.Join(found[kindRoute].err, k.removeRoutes(routes))
	}
	for _, d := range found {
		failed = errors.Join(failed, d.err)
	}
	return found, failed
}

// noticeDevices looks for devices that are other ones than before, though of
// the same name, and for those that the plan no longer names: nobody took away what those had. The listeners learn which
// the plan names.
func (k *Kernel) noticeDevices(p *balancer.Plan) {
	now := map[string]int{}
	for _, name := range planDevices(*p) {
		now[name] = 0
		if l, err := k.routes.LinkByName(name); err == nil {
			now[name] = l.Attrs().Index
		}
		if now[name] != k.index[name] {
			k.forget(name)
		}
	}
	for name := range k.index { // with a device's last address its routes go too
		if _, named := now[name]; named {
			continue
		}
		for place, r := range k.wrote.routes {
			if slices.Contains(r.over, name) {
				r.way = "" // no other one is expected there
				k.wrote.routes[place] = r
			}
		}
	}
	k.index = now
	k.scope.Store(newScope(*p, now))
}

// forget what was on a device that is, or was for a moment, down or away.
func (k *Kernel) forget(device string) {
	for key := range k.wrote.sysctls {
		if sysctlDevice(key) == device {
			delete(k.wrote.sysctls, key)
		}
	}
	for place, r := range k.wrote.routes {
		if slices.Contains(r.over, device) {
			delete(k.wrote.routes, place)
		}
	}
}

// count notes what was put back that somebody else had changed, and tells.
func (k *Kernel) count(found [kinds]difference, now time.Time) {
	for kind, d := range found {
		if len(d.damaged) == 0 {
			continue
		}
		kind := aspect(kind)
		f := &k.fights[kind]
		f.repaired(now)
		k.repairs[kind].Add(uint64(len(d.damaged)))
		k.cfg.Log.Warn("put back what another program changed", "kind", kind, "what", d, "in_a_minute", len(f.past))
		if k.cfg.Repaired != nil {
			k.cfg.Repaired(kind.String(), d.String())
		}
	}
}

// Raise sets the routes that waited for a device with a virtual MAC, which is up
// now and has its addresses: before it is announced, and without waiting for a
// plan that is being applied. What fails is left to Run.
func (k *Kernel) Raise() {
	routes := k.waiting.Load()
	if routes == nil {
		return
	}
	for _, r := range *routes {
		route, err := k.kernelRoute(r)
		if err == nil {
			err = k.setRoute(r, route, false, netlink.Route{})
		}
		if err != nil {
			select {
			case k.kick <- struct{}{}:
			default:
			}
		}
	}
}

// Prepare sets the plan's sysctls alone, and keeps the values from before
// whatever the other parts of the program set later. It may be called again at
// any time: when a device came, before anybody else sets it up.
func (k *Kernel) Prepare(p balancer.Plan) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	_, err := k.pass(&p, setOf(kindSysctl), true)
	if k.plan != nil { // the listeners go on with what was applied
		k.noticeDevices(k.plan)
	}
	return err
}

// Cleanup takes everything of ours away; sysctls go back to what they were if
// they still hold our value. A second one does nothing. Nothing is put back
// after it until the next Apply.
func (k *Kernel) Cleanup(context.Context) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	k.plan, k.wrote, k.user = nil, wrote{}, ""
	k.tables++
	k.waiting.Store(nil)
	k.races.Store(nil)
	k.scope.Store(nil)
	rules, _, ruleErr := k.ourRules()
	if ruleErr != nil {
		ruleErr = fmt.Errorf("read the ip rules: %w", ruleErr)
	}
	routes, _, routeErr := k.ourRoutes()
	if routeErr != nil {
		routeErr = fmt.Errorf("read the routes: %w", routeErr)
	}
	return errors.Join(k.removeTable(), ruleErr, k.removeRules(slices.Collect(maps.Values(rules))),
		routeErr, k.removeRoutes(slices.Collect(maps.Values(routes))),
		k.restore(func(string) bool { return true }))
}
