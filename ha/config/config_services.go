package config

import (
	"net/netip"
	"time"
)

// Firewall is what the router itself and the lans accept.
type Firewall struct {
	Enabled   bool
	Allow     []Allow
	Forward   []Forward
	Groups    [][]string // who may talk to whom; ":uplinks" are all uplinks
	ICMPLimit Rate       // pings, of all together
	SYNLimit  Rate       // new TCP connections of one source
	Log       bool
	Antispoof bool
	MSS       MSS
}

// MSS is whether the segment size of TCP is fitted to the path.
type MSS string

// The ways to treat the segment size.
const (
	MSSClamp MSS = "clamp"
	MSSOff   MSS = "off"
)

// Allow opens ports of the router, or of hosts behind it.
type Allow struct {
	From     string         // wan, lan or the name of a lan or uplink, which goes first; "": all uplinks
	To       []netip.Prefix // hosts behind the router; none: the router
	Protocol []uint8        // none: all
	Ports    []PortRange
	Source   []netip.Prefix
	Limit    Rate
}

// Forward leads a port of the uplinks to a host.
type Forward struct {
	Port     PortRange
	To       netip.Addr
	ToPort   uint16   // 0: the same
	Protocol []string // tcp, udp
	Uplinks  []string // none: all
	Source   []netip.Prefix
	Hairpin  bool
	Limit    Rate
}

// Rate is so many a unit: second, minute or hour. None: Count is 0.
type Rate struct {
	Count uint32
	Unit  string
}

// Route is a network that is reached another way.
type Route struct {
	To         netip.Prefix
	Device     string
	Gateway    netip.Addr
	Source     netip.Addr
	Masquerade bool
}

// ConntrackSync is the copying of the flow table between nodes.
type ConntrackSync struct {
	Enabled         bool
	Timeout         time.Duration
	PreemptUnsynced bool
	Ignore          []netip.Prefix
	Protocols       []string
	TableSize       int // 0: the kernel's
}

// Hooks are scripts that run at events.
type Hooks struct {
	Directory string // beside the config unless absolute
	Timeout   time.Duration
}

// Mail is where messages go; none: To is empty.
type Mail struct {
	To                                 []string
	From, SMTP, Username, PasswordFile string
}

// Webhook is an address that gets events as JSON; none: URL is empty.
type Webhook struct {
	URL     string
	Headers map[string]string
}

// Ports are those of the cluster's own talk.
type Ports struct {
	Gossip uint16 // tcp and udp
	Sync   uint16 // tcp
}

// Log is how much is said.
type Log struct {
	Level Level
	Parts map[string]Level // by one of LogParts
}

// Level is the least important kind of line that is written.
type Level string

// The levels.
const (
	LevelDebug Level = "debug"
	LevelInfo  Level = "info"
	LevelWarn  Level = "warn"
	LevelError Level = "error"
)

// LogParts are the parts of the program whose level can be set apart.
var LogParts = []string{
	"balancer", "config", "conntracksync", "control", "dataplane", "events", "gossip", "guard", "ha", "hello", "hooks", "join", "links", "probe", "pulse", "race", "report", "services", "traffic", "vip", "vrrp", "wire",
}
