package netlab

import (
	"net/netip"
	"time"
)

// Load is the traffic of a client. Every part may be repeated and left out.
type Load struct {
	UDP   []UDPFlows
	TCP   []TCPFlows
	Fresh []Fresh
	Ping  []Ping
	// Drain is how long Stop waits for answers that are still under way; 1 s if 0.
	Drain time.Duration
}

// UDPFlows are echo flows, each from a port of its own, that send a numbered
// and time-stamped datagram every Interval.
type UDPFlows struct {
	Server   netip.AddrPort
	Flows    int
	Interval time.Duration
	Size     int // bytes of payload; at least 64, the default
}

// Ping sends an ICMP echo request to Target every Interval.
type Ping struct {
	Target   netip.Addr
	Interval time.Duration
}

// Mode is what a TCP flow carries.
type Mode string

const (
	Echo     Mode = ""         // messages of Size bytes that come back, every byte compared
	Upload   Mode = "upload"   // bulk, every byte compared by the server and counted
	Download Mode = "download" // bulk, every byte compared
)

// TCPFlows are connections that are established before Load returns.
type TCPFlows struct {
	Server   netip.AddrPort
	Flows    int
	Interval time.Duration // between messages; 0: idle, a message only at Poke; of bulk: as much as goes
	Size     int           // bytes of a message; 64 by default, of bulk 16 KiB
	Mode     Mode
}

// Fresh opens a new connection every Interval, reads the server's greeting
// and closes it. One that takes longer than Timeout has failed.
type Fresh struct {
	Server   netip.AddrPort
	Interval time.Duration
	Timeout  time.Duration // 900 ms by default: one SYN
	Count    int           // stop after so many; 0: go on
}

// EchoPort is where a server of the lab listens, UDP and TCP.
const EchoPort = 7007

// StandardLoad is the load of the baselines (research/baseline-keepalived.md):
// four UDP flows at 500/s, 32 TCP flows at 50/s, a new connection every 20 ms,
// all to one server, and a ping of the LAN's gateway every 10 ms.
func StandardLoad(server, gateway netip.Addr) Load {
	to := netip.AddrPortFrom(server, EchoPort)
	return Load{
		UDP:   []UDPFlows{{Server: to, Flows: 4, Interval: 2 * time.Millisecond}},
		TCP:   []TCPFlows{{Server: to, Flows: 32, Interval: 20 * time.Millisecond}},
		Fresh: []Fresh{{Server: to, Interval: 20 * time.Millisecond}},
		Ping:  []Ping{{Target: gateway, Interval: 10 * time.Millisecond}},
	}
}
