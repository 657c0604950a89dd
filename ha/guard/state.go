package guard

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// State is what the guard must know to act without the daemon. It is sent whole
// at each change, and before the change is made: addresses stand in it before
// they are on a device.
type State struct {
	// Holding: this node is master, the addresses are on the devices or about to be.
	Holding bool `json:"holding"`
	// PeerAlive: another node is alive that can take over.
	PeerAlive bool `json:"peer_alive"`
	// Foreign: routers that are not ours take part. They are not known to be alive
	// while they are backups.
	Foreign bool `json:"foreign,omitempty"`
	// OneHolder: the farewell waits until the addresses are gone, since another
	// node's have the same MAC.
	OneHolder bool `json:"one_holder,omitempty"`
	// Addresses are taken away by the fence.
	Addresses []Address `json:"addresses"`
	// Farewell are the ready-made priority-0 adverts, one per path.
	Farewell []Frame `json:"farewell"`
	// Words are sealed datagrams for the successor, which says with them that it
	// may take over at once. They go out when the addresses are gone.
	Words []Word `json:"words,omitempty"`
	// Devices and Local are where adverts are listened for when no peer is
	// alive: multicast on each device, unicast at the node's own address.
	Devices []string   `json:"devices"`
	Local   netip.Addr `json:"local"`
	// VRID and Senders say which adverts count: those of this virtual router
	// from these sources (the other nodes' addresses and vrrp.foreign).
	VRID    uint8            `json:"vrid"`
	VRIDs   map[string]uint8 `json:"vrids,omitempty"` // on devices where it is another
	Senders []netip.Addr     `json:"senders"`
	// Hang is H of DESIGN.md §5: no beat for that long is a hang. Zero or less
	// switches this watch off; the daemon's death is then still noticed.
	Hang time.Duration `json:"hang"`
}

// Address is one virtual address on a device.
type Address struct {
	Device string       `json:"device"`
	Prefix netip.Prefix `json:"prefix"`
}

// Frame is a ready-made VRRP packet without its IP header.
type Frame struct {
	Device  string     `json:"device"`
	Src     netip.Addr `json:"src"`
	Dst     netip.Addr `json:"dst"`
	TTL     int        `json:"ttl"`
	Payload []byte     `json:"payload"`
}

// Word is a ready-made UDP datagram.
type Word struct {
	Source netip.Addr     `json:"source"`
	To     netip.AddrPort `json:"to"`
	Bytes  []byte         `json:"bytes"`
}

// Heard is one packet of protocol 112 that reached this machine.
type Heard struct {
	Device         string // "" unicast
	Src            netip.Addr
	TTL            int
	VRID, Priority uint8
	Drop           string // why it could not be parsed, "" is good
}

// valid reports whether h is the advert of another master of our virtual
// router. Priority 0 is a master that leaves: that is no reason to leave too.
func (s *State) valid(h Heard) bool {
	src := plain(h.Src)
	return h.Drop == "" && h.TTL == 255 && h.VRID == cmp.Or(s.VRIDs[h.Device], s.VRID) && h.Priority != 0 &&
		src.IsValid() && !s.own(src) &&
		slices.ContainsFunc(s.Senders, func(a netip.Addr) bool { return plain(a) == src })
}

// own reports whether src is one of this node's own sources. Senders may list
// every node of the cluster, this one too.
func (s *State) own(src netip.Addr) bool {
	return plain(s.Local) == src ||
		slices.ContainsFunc(s.Farewell, func(f Frame) bool { return plain(f.Src) == src })
}

// plain makes addresses comparable that came by different ways: sockets add
// zones, and IPv4 may be mapped into IPv6.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
