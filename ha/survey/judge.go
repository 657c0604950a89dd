package survey

import (
	"fmt"
	"net/netip"
	"regexp"
)

// Use is what a device seems to be for.
type Use uint8

// Lan leads to hosts, Wan to an ISP, Cable to one other machine, most likely the
// other router; None is not for a router's traffic, or nothing tells what it is for.
const (
	None Use = iota
	Lan
	Wan
	Cable
)

func (u Use) String() string {
	switch u {
	case Lan:
		return "lan"
	case Wan:
		return "uplink"
	case Cable:
		return "cable"
	case None:
		return "left out"
	}
	return fmt.Sprintf("Use(%d)", u)
}

// Device is a network device and what was made of it.
type Device struct {
	Name    string
	Use     Use
	Why     string       // in words for a person
	Address netip.Prefix // its IPv4 address with the length of the network; the zero value: none
	Further []netip.Addr // its other IPv4 addresses
	Gateway netip.Addr   // of the best default route over it; the zero value: none
	// Labelled are addresses with a label of their own, such as eth0:1, by that label.
	Labelled map[string]netip.Prefix
	// Dynamic says that address or route came from a lease or from a link, so
	// that they may be others tomorrow.
	Dynamic bool
}

// seen is what the kernel says about a device.
type seen struct {
	Device
	kind     string // the kernel's word, such as veth or wireguard; device for hardware
	loopback bool
	up       bool
	part     string // the bridge or bond that it is a part of
	route    bool   // there is a default route over it
}

var tunnels = map[string]bool{
	"tun": true, "tuntap": true, "wireguard": true, "ovpn": true, "gre": true, "gretap": true, "ip6gre": true, "ip6gretap": true, "erspan": true,
	"ip6erspan": true, "ipip": true, "ip6tnl": true, "sit": true, "vti": true, "vti6": true, "xfrm": true, "vxlan": true, "geneve": true, "gtp": true,
	"bareudp": true, "l2tpeth": true,
}

var nowhere = map[string]bool{
	"dummy": true, "ifb": true, "nlmon": true, "vrf": true, "vcan": true, "can": true, "netdevsim": true, "ipvtap": true, "macvtap": true,
}

// guests are the bridges that docker, podman, libvirt, LXC and Kubernetes make.
var guests = regexp.MustCompile(`^(docker\d+|docker_gwbridge|br-[0-9a-f]{12}|podman\d+|virbr\d+|lxcbr\d+|lxdbr\d+|incusbr\d+|cni\d+|cni-.*|cbr\d+)$`)

// shared is what ISPs give to customers behind their own NAT (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// judge says what a device seems to be for, and why.
func judge(s seen) (Use, string) {
	switch {
	case s.loopback:
		return None, "the machine itself"
	case s.part != "":
		return None, "a part of " + s.part
	case tunnels[s.kind]:
		return None, "a tunnel (" + s.kind + ")"
	case nowhere[s.kind]:
		return None, "no network of its own behind it (" + s.kind + ")"
	case s.kind == "bridge" && guests.MatchString(s.Name):
		return None, "for containers or virtual machines"
	case s.route && s.Gateway.IsValid():
		return Wan, "has a default route via " + s.Gateway.String()
	case s.route:
		return Wan, "has a default route"
	case !s.Address.IsValid() && s.kind == "veth":
		return None, "a cable into a container"
	case !s.Address.IsValid() && !s.up:
		return None, "is down and has no IPv4 address"
	case !s.Address.IsValid():
		return None, "has no IPv4 address"
	case s.Address.Addr().IsPrivate() && (s.Address.Bits() == 30 || s.Address.Bits() == 31):
		return Cable, "has a private network of two machines and no default route"
	case s.Address.Addr().IsPrivate():
		return Lan, "has a private address and no default route"
	case shared.Contains(s.Address.Addr()):
		return Wan, "has an address of those that ISPs share out (100.64.0.0/10)"
	}
	return Wan, "has a public address"
}
