package hello

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"harouter/ha"
)

// Lan is a lan on which the nodes greet each other.
type Lan struct {
	Name, Device string
	Networks     []netip.Prefix // of its hosts
}

// Config says with whom, and where.
type Config struct {
	Cluster string
	VRID    uint8
	Node    string   // own name
	Others  []string // the other nodes of the file
	Keys    [][32]byte
	Lans    []Lan // none: nothing is sent
	// Report gets what is heard: ha.PeerTold, PeerSeen, Told, Hosts, Reached and
	// Dropped. It must not block.
	Report func(ha.Event)
	// LinkLocal is an address of IPv6 that hosts behind a device may be asked from.
	LinkLocal func(index int) (netip.Addr, error)
	Log       *slog.Logger
}

// Greeter is a Task.
type Greeter struct {
	report func(ha.Event)
	log    *slog.Logger
	kick   chan struct{}
	heard  chan packetIn

	mu     sync.Mutex // for moments only
	orders []any      // for the goroutine of Run

	// The rest belongs to that goroutine.
	cfg   Config
	seal  *seal
	book  *book
	life  uint64
	seq   uint64
	state []byte
	told  ha.Heard
	ears  map[string]*ear         // by device
	looks map[string]*asking      // by lan
	hosts map[string][]netip.Addr // told last, by lan
	said  map[string]string       // problem of a device that was logged
	again *time.Timer             // to greet
	asks  *time.Timer             // stopped while nobody is looked for
	budget
}

// New checks the settings; it opens nothing yet.
func New(cfg Config) (*Greeter, error) {
	s, err := newSeal(cfg.Cluster, cfg.VRID, cfg.Keys)
	if err != nil {
		return nil, err
	}
	if cfg.Node == "" {
		return nil, errors.New("greet on the lans: no name of this node")
	}
	return &Greeter{
		report: cfg.Report, log: cfg.Log, kick: make(chan struct{}, 1), heard: make(chan packetIn, 256),
		cfg: cfg, seal: s, book: newBook(random()), life: random(),
		ears: map[string]*ear{}, looks: map[string]*asking{}, hosts: map[string][]netip.Addr{}, said: map[string]string{},
	}, nil
}

func (g *Greeter) String() string { return "hello" }

type (
	publish struct{ state []byte }
	send    struct {
		to      string
		payload []byte
	}
	change struct {
		cfg  Config
		seal *seal
	}
	linked struct{}
)

// Publish greets with this state at once and from now on. Like all that follows
// it never blocks.
func (g *Greeter) Publish(state []byte) { g.order(publish{slices.Clone(state)}) }

// Send tells one node something, once on each lan.
func (g *Greeter) Send(node string, payload []byte) { g.order(send{node, slices.Clone(payload)}) }

// Look asks hosts of a lan until another Look for it.
func (g *Greeter) Look(l ha.Look) { g.order(l) }

// LinkChanged tells of an event on a device.
func (g *Greeter) LinkChanged() { g.order(linked{}) }

// Configure replaces all settings but Report and Log.
func (g *Greeter) Configure(cfg Config) error {
	s, err := newSeal(cfg.Cluster, cfg.VRID, cfg.Keys)
	if err != nil {
		return err
	}
	g.order(change{cfg, s})
	return nil
}

func (g *Greeter) order(o any) {
	g.mu.Lock()
	g.orders = append(g.orders, o)
	g.mu.Unlock()
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

func (g *Greeter) taken() []any {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.orders
	g.orders = nil
	return out
}
