package config

import (
	"fmt"
	"math/bits"
	"net/netip"
	"time"
)

// Config is a checked file. Everything is filled in: what the file leaves out
// has its default (defaults.go).
type Config struct {
	Cluster       string
	Nodes         []Node // in the order of the file
	VRRP          VRRP
	Lans          []Lan
	Uplinks       []Uplink
	Policies      []Policy // first match wins; the last one is `default`
	Balance       Balance
	Firewall      Firewall
	Routes        []Route
	ConntrackSync ConntrackSync
	Services      []string
	Hooks         Hooks
	Mail          Mail
	Webhook       Webhook
	Ports         Ports
	Log           Log

	Hash string // SHA-256 of the file's bytes, with those of the lists that it names (see Pack), in hex
}

// Node is one router.
type Node struct {
	Name      string
	Addresses []netip.Addr // in order of preference, at least one
	Priority  uint8        // 1…254
	Devices   map[string]string
}

// VRRP is the election.
type VRRP struct {
	ID             uint8 // 1…255
	Version        uint8 // 2 or 3
	Advertise      time.Duration
	Preempt        bool
	PreemptDelay   time.Duration // counted from hearing the master
	Checksum       Checksum
	Authentication string // version 2 only
	UnicastOnly    bool
	Accept         bool
	Foreign        []netip.Addr // routers that take part and are not harouter
	Check          Check
}

// Checksum is the form of the checksum that is sent; both are accepted.
type Checksum string

// ChecksumPseudo covers the pseudo-header, as keepalived and FRR send it; ChecksumPlain does not.
const (
	ChecksumPseudo Checksum = "pseudo"
	ChecksumPlain  Checksum = "plain"
)

// Check is a command that must succeed for a node to be fit; none: no Command.
type Check struct {
	Command           []string
	Interval, Timeout time.Duration
	Rise, Fall        int
}

// Lan is a network whose hosts use the cluster as their gateway.
type Lan struct {
	Name       string
	Device     string         // where no node says otherwise: see Config.Device
	Virtual    []netip.Prefix // 1…255 addresses, each with the length of its network
	VRID       uint8
	VirtualMAC bool
}

// Uplink is an ISP line.
type Uplink struct {
	Name       string
	ID         int // 1…63, distinct
	Device     string
	Gateway    Gateway
	Virtual    []netip.Prefix // none: the device's own address is used
	Weight     int            // 0…255
	Tier       int            // 1…16, lower first
	Down, Up   BitRate        // speed; 0: not known
	Metered    bool           // probed less often: see ProbeInterval
	Probe      Probe
	VRID       uint8
	VirtualMAC bool
}

// GatewayKind says where the gateway comes from.
type GatewayKind string

// GatewayAuto follows the routes that the machine has, GatewayStatic is the file's address,
// GatewayDHCP and GatewayPPP come from a lease or a link.
const (
	GatewayAuto   GatewayKind = "auto"
	GatewayStatic GatewayKind = "static"
	GatewayDHCP   GatewayKind = "dhcp"
	GatewayPPP    GatewayKind = "ppp"
)

// Gateway is the ISP's router. Address is valid for GatewayStatic only.
type Gateway struct {
	Kind    GatewayKind
	Address netip.Addr
}

func (g Gateway) String() string {
	if g.Kind == GatewayStatic {
		return g.Address.String()
	}
	return string(g.Kind)
}

// Probe is how an uplink's health is found out.
type Probe struct {
	Targets  []Target      // none: ARP to the gateway only
	Method   ProbeMethod   // of targets that name none
	Interval time.Duration // as the file says: Uplink.ProbeInterval is what holds
	Timeout  time.Duration // may exceed the interval
	Fall     int           // bad rounds until down
	Rise     int           // good rounds until up
	Quorum   int           // targets that must answer in a round
	Loss     Threshold[Fraction]
	Latency  Threshold[time.Duration]
	Jitter   Threshold[time.Duration]
}

// ProbeMethod is what a probe sends.
type ProbeMethod string

// The probe methods.
const (
	ProbeICMP ProbeMethod = "icmp"
	ProbeTCP  ProbeMethod = "tcp"
	ProbeDNS  ProbeMethod = "dns"
	ProbeHTTP ProbeMethod = "http"
	ProbeARP  ProbeMethod = "arp"
)

// Target is what a probe asks. Zero values are for the prober to fill in.
type Target struct {
	Address netip.Addr
	Method  ProbeMethod
	Port    int    // of tcp and dns; 0: 443 and 53
	URL     string // of http; "": http://ADDRESS/
	Name    string // of dns; "": the root
}

// Threshold makes an uplink degraded from one value on, and healthy again at
// the other, which is less; both zero: none.
type Threshold[T Fraction | time.Duration] struct{ Degraded, Clear T }

// Balance is what the data plane uses of the machine's name spaces.
type Balance struct {
	MarkMask     Mask
	TableBase    int // tables TableBase+1 … TableBase+63
	RulePriority int // rules RulePriority … RulePriority+999
	FlapHold     FlapHold
	ResetClients bool
}

// FlapHold is how long an uplink that flaps waits before it is used again: Hold
// after the first time, twice as long after each further one, at most Max. Hold
// is zero where nothing waits, else Max is at least Hold.
type FlapHold struct{ Hold, Max time.Duration }

func (f FlapHold) String() string {
	if f.Hold == 0 {
		return "0s"
	}
	return fmt.Sprintf("%s doubling to %s", showDuration(f.Hold), showDuration(f.Max))
}

// Mask is the part of the packet mark that is ours: one run of bits.
type Mask uint32

func (m Mask) String() string { return fmt.Sprintf("%#x", uint32(m)) }

func (m Mask) contiguous() bool {
	return m != 0 && bits.OnesCount32(uint32(m)) == bits.Len32(uint32(m))-bits.TrailingZeros32(uint32(m))
}

// Max is the largest uplink id that fits.
func (m Mask) Max() int { return int(uint32(m) >> bits.TrailingZeros32(uint32(m))) }

// Device is the name of a lan's or uplink's device on a node; empty when there
// is no such lan or uplink.
func (c *Config) Device(node, link string) string {
	for _, n := range c.Nodes {
		if d := n.Devices[link]; n.Name == node && d != "" {
			return d
		}
	}
	for _, l := range c.Lans {
		if l.Name == link {
			return l.Device
		}
	}
	for _, u := range c.Uplinks {
		if u.Name == link {
			return u.Device
		}
	}
	return ""
}
