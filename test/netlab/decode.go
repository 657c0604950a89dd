package netlab

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"
)

// Advert is a VRRP packet as it was on the wire, taken apart without any
// checking: that is what tests are for.
type Advert struct {
	At        Instant
	Out       bool // see Packet
	MAC       net.HardwareAddr
	Src, Dst  netip.Addr
	TTL       uint8
	Version   uint8
	Type      uint8
	VRID      uint8
	Priority  uint8
	Interval  time.Duration // of version 3, in the packet in hundredths of a second; of version 2 in seconds
	Checksum  uint16
	Addresses []netip.Addr
	Payload   []byte // the whole VRRP message
	Password  []byte // the last 8 bytes of a version 2 message: its password field
}

// Adverts are the VRRP packets recorded so far.
func (c *Capture) Adverts() []Advert {
	var adverts []Advert
	for _, p := range c.Packets() {
		if a, ok := parseAdvert(p); ok {
			adverts = append(adverts, a)
		}
	}
	return adverts
}

func parseAdvert(p Packet) (Advert, bool) {
	a := Advert{At: p.At, Out: p.Out}
	b := p.Frame
	if len(b) < 14 {
		return a, false
	}
	a.MAC = net.HardwareAddr(b[6:12])
	size := 4
	switch ip := b[14:]; binary.BigEndian.Uint16(b[12:]) {
	case 0x0800:
		if len(ip) < 20 || ip[9] != 112 {
			return a, false
		}
		header, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
		if header < 20 || total < header || total > len(ip) {
			return a, false
		}
		a.TTL, a.Src, a.Dst = ip[8], netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		a.Payload = ip[header:total]
	case 0x86dd:
		if len(ip) < 40 || ip[6] != 112 {
			return a, false
		}
		total := 40 + int(binary.BigEndian.Uint16(ip[4:]))
		if total > len(ip) {
			return a, false
		}
		a.TTL, a.Src, a.Dst = ip[7], netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		a.Payload, size = ip[40:total], 16
	default:
		return a, false
	}
	m := a.Payload
	if len(m) < 8 {
		return a, true // a broken one is one all the same
	}
	a.Version, a.Type, a.VRID, a.Priority = m[0]>>4, m[0]&15, m[1], m[2]
	a.Checksum = binary.BigEndian.Uint16(m[6:])
	a.Interval = time.Duration(binary.BigEndian.Uint16(m[4:])&0xfff) * 10 * time.Millisecond
	if a.Version == 2 {
		a.Interval = time.Duration(m[5]) * time.Second
		if len(m) >= 16 {
			a.Password = m[len(m)-8:]
		}
	}
	for rest := m[8:]; len(rest) >= size && len(a.Addresses) < int(m[3]); rest = rest[size:] {
		addr, _ := netip.AddrFromSlice(rest[:size])
		a.Addresses = append(a.Addresses, addr)
	}
	return a, true
}

// ARP is an ARP packet as it was on the wire.
type ARP struct {
	At                   Instant
	Out                  bool // see Packet
	MAC, Dst             net.HardwareAddr
	Op                   uint16 // 1 request, 2 reply
	SenderMAC, TargetMAC net.HardwareAddr
	Sender, Target       netip.Addr
}

// Gratuitous tells whether it announces its sender's own address.
func (a ARP) Gratuitous() bool { return a.Sender == a.Target && !a.Sender.IsUnspecified() }

// ARPs are the ARP packets recorded so far.
func (c *Capture) ARPs() []ARP {
	var arps []ARP
	for _, p := range c.Packets() {
		if a, ok := parseARP(p); ok {
			arps = append(arps, a)
		}
	}
	return arps
}

// GratuitousARPs are those of ARPs that announce an address.
func (c *Capture) GratuitousARPs() []ARP {
	var announcements []ARP
	for _, a := range c.ARPs() {
		if a.Gratuitous() {
			announcements = append(announcements, a)
		}
	}
	return announcements
}

func parseARP(p Packet) (ARP, bool) {
	b := p.Frame
	be := binary.BigEndian
	if len(b) < 42 || be.Uint16(b[12:]) != 0x0806 || be.Uint16(b[16:]) != 0x0800 || b[18] != 6 || b[19] != 4 {
		return ARP{}, false
	}
	return ARP{
		At: p.At, Out: p.Out, Dst: net.HardwareAddr(b[0:6]), MAC: net.HardwareAddr(b[6:12]), Op: be.Uint16(b[20:]),
		SenderMAC: net.HardwareAddr(b[22:28]), Sender: netip.AddrFrom4([4]byte(b[28:32])),
		TargetMAC: net.HardwareAddr(b[32:38]), Target: netip.AddrFrom4([4]byte(b[38:42])),
	}, true
}

func nativeInt64(b []byte) int64 { return int64(binary.NativeEndian.Uint64(b)) }
