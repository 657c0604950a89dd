package conntracksync

import "time"

// Timeouts are how long flows live without a packet: the kernel's settings
// nf_conntrack_*_timeout*. The zero value of one means that it is not known.
type Timeouts struct {
	Generic, ICMP, ICMPv6 time.Duration
	UDP, UDPStream        time.Duration
	GRE, GREStream        time.Duration
	TCP                   [SYNSent2 + 1]time.Duration // by state
	SCTP                  [16]time.Duration           // by state
}

// DefaultTimeouts are those of an untouched kernel.
func DefaultTimeouts() Timeouts {
	t := Timeouts{Generic: 10 * time.Minute, ICMP: 30 * time.Second, ICMPv6: 30 * time.Second,
		UDP: 30 * time.Second, UDPStream: 2 * time.Minute, GRE: 30 * time.Second, GREStream: 3 * time.Minute}
	for state, seconds := range [...]int{SYNSent: 120, SYNReceived: 60, Established: 432000, FINWait: 120, CloseWait: 60,
		LastACK: 30, TimeWait: 120, Closed: 10, SYNSent2: 120} {
		t.TCP[state] = time.Duration(seconds) * time.Second
	}
	for state, seconds := range [...]int{1: 10, 2: 3, 3: 3, 4: 210, 5: 3, 6: 3, 7: 3, 8: 30} {
		t.SCTP[state] = time.Duration(seconds) * time.Second
	}
	return t
}

// of is how many seconds a flow lives: at least one.
func (t *Timeouts) of(f *flow, r *rarity) uint32 {
	d := t.Generic
	stream := f.status&Assured != 0
	switch f.key.protocol {
	case TCP:
		d = t.TCP[f.tcp.State]
		if f.tcp.State == NoState {
			d = t.TCP[SYNSent]
		}
	case UDP:
		if d = t.UDP; stream {
			d = t.UDPStream
		}
	case GRE:
		if d = t.GRE; stream {
			d = t.GREStream
		}
	case ICMP:
		d = t.ICMP
	case ICMPv6:
		d = t.ICMPv6
	case SCTP:
		if f.rare {
			d = t.SCTP[r.sctp.State&15]
		}
	}
	return max(1, f.timeout, uint32(d/time.Second))
}
