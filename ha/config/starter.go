package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Machine is what a starter file is written from: one router, as somebody saw it.
type Machine struct {
	Cluster  string
	Node     string
	Address  netip.Addr // where other nodes will reach it
	Priority uint8      // 1…254; 0: StarterPriority
	Lans     []MachineLan
	Uplinks  []MachineUplink
}

// StarterPriority leaves room for better and worse nodes.
const StarterPriority = 200

// MachineLan is a network with hosts.
type MachineLan struct {
	Name, Device string
	Own          netip.Prefix // the router's own address there; the zero value: none
	Virtual      netip.Prefix // the zero value: one is suggested, from Own
}

// MachineUplink is an ISP line.
type MachineUplink struct {
	Name, Device string
	Own          netip.Prefix // the router's own address there; the zero value: none
	Gateway      netip.Addr   // the zero value: found out while running
	Virtual      netip.Prefix // the zero value: none
	Weight       int          // 1…255; 0: 1
}

// Suggest is a virtual address in the network of a router's own address: the last
// one there that none of used is. The zero value where the network has no other
// or is too large to be one network of hosts. Whether a host has it nobody knows.
func Suggest(own netip.Prefix, used ...netip.Addr) netip.Prefix {
	if !own.IsValid() || !own.Addr().Is4() || own.Bits() < 8 || own.Bits() > 30 {
		return netip.Prefix{}
	}
	used = append(slices.Clone(used), own.Addr(), own.Masked().Addr())
	for a := lastAddress(own).Prev(); own.Contains(a); a = a.Prev() {
		if !slices.Contains(used, a) {
			return netip.PrefixFrom(a, own.Bits())
		}
	}
	return netip.Prefix{}
}

// Starter writes the first file of a cluster, with one node and with comments for
// people who never saw one. It is valid, or there is an error that says what
// about the machine cannot stand in a file.
func Starter(m Machine) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	text, err := starterText(m)
	if err != nil {
		return nil, err
	}
	if _, problems := Parse("the starter file", text); problems.Err() != nil {
		var errs []error
		for _, p := range problems.Errors() {
			errs = append(errs, errors.New(p.Text))
		}
		return nil, errors.Join(errs...)
	}
	return text, nil
}

func starterText(m Machine) ([]byte, error) {
	if m.Priority == 0 {
		m.Priority = StarterPriority
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# Written by harouter init on %s. Change what you like, then run harouter check:
# it tells every mistake with its line. The same file stands on every router.

cluster: %s

# One entry for each router. A second one joins by itself: run harouter token here
# while harouter runs, and the line that it prints on the new router. That writes
# the new router's entry below, on both.
nodes:
  %s:
    # Where the routers talk to each other: best a direct cable between them. An
    # address on the lan works too, but then they lose each other when it fails.
    address: %s
    # 1 to 254: the highest of the routers that work is master.
    priority: %d
`, m.Node, keyText(m.Cluster), keyText(m.Node), addressText(m.Address), m.Priority)
	if err := starterLans(&b, m); err != nil {
		return nil, err
	}
	starterUplinks(&b, m)
	b.WriteString(`
# From the uplinks nothing begins but pings and the routers' own talk: ssh from
# outside is closed. The lans are not restricted. To let ssh in by the uplinks:
# firewall: {allow: [{from: wan, protocol: tcp, ports: 22}]}

# Everything else has a default that works; for example:
# vrrp: {id: 52}    # if another VRRP router on these networks uses 51
`)
	return []byte(b.String()), nil
}

func starterLans(b *strings.Builder, m Machine) error {
	if len(m.Lans) == 0 {
		return nil
	}
	b.WriteString(`
# The networks with your hosts. The virtual address is the gateway of the hosts: it
# moves to the router that is master. It must be nobody's own address.
lans:
`)
	for _, l := range m.Lans {
		fmt.Fprintf(b, "  - name: %s\n    device: %s\n", keyText(l.Name), keyText(l.Device))
		if !l.Virtual.IsValid() {
			l.Virtual = Suggest(l.Own, m.Address)
			if !l.Virtual.IsValid() {
				return fmt.Errorf("lan %s: no virtual address can be suggested on %s (own address: %s); give one, such as 192.168.77.1/24", l.Name, l.Device, orNone(l.Own))
			}
			fmt.Fprintf(b, `    # Suggested: make sure that no host has it, and give it to the hosts as gateway.
    # Or, if %[1]s is their gateway now: give this router another address of
    # its own, and write %[2]s here.
`, l.Own.Addr(), l.Own)
		}
		fmt.Fprintf(b, "    virtual_addresses: [%s]\n", l.Virtual)
	}
	return nil
}

func starterUplinks(b *strings.Builder, m Machine) {
	if len(m.Uplinks) == 0 {
		return
	}
	b.WriteString(`
# The lines to the internet. New connections are shared out among those that work.
# For each of them, better than nothing are:
#   virtual_addresses: an address in the line's network that is yours and free. With
#     one, connections survive when a router dies; without one they break then.
#   probe: hosts behind the line that answer pings, such as the ISP's name servers.
#     Without them only the gateway is asked, and a fault behind it goes unseen.
uplinks:
`)
	for i, u := range m.Uplinks {
		fmt.Fprintf(b, "  - name: %s\n    id: %d    # stays with this line for good\n    device: %s\n", keyText(u.Name), i+1, keyText(u.Device))
		if u.Gateway.IsValid() {
			fmt.Fprintf(b, "    gateway: %s\n", addressText(u.Gateway))
		} else {
			b.WriteString("    gateway: auto    # what this machine's default route over the device says\n")
		}
		if u.Virtual.IsValid() {
			fmt.Fprintf(b, "    virtual_addresses: [%s]\n", u.Virtual)
		} else {
			example := "ADDRESS/LENGTH"
			if p := Suggest(u.Own, u.Gateway); p.IsValid() {
				example = p.String()
			}
			fmt.Fprintf(b, "    # virtual_addresses: [%s]\n", example)
		}
		fmt.Fprintf(b, "    # probe: {targets: [ADDRESS, ADDRESS]}\n    weight: %d    # twice the weight, twice the connections\n", max(u.Weight, 1))
	}
}

// check refuses words that would not stand in the file as they are.
func (m Machine) check() error {
	var errs []error
	is := func(what, text string, parse func(*value) (string, error)) {
		if _, err := parse(&value{kind: scalar, text: text}); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", what, err))
		}
	}
	is("cluster:", m.Cluster, name(maxName))
	is("node:", m.Node, name(maxHostName))
	for _, l := range m.Lans {
		is("lan:", l.Name, name(maxName))
		is("lan "+l.Name+":", l.Device, device)
	}
	for _, u := range m.Uplinks {
		is("uplink:", u.Name, name(maxName))
		is("uplink "+u.Name+":", u.Device, device)
	}
	if !m.Address.IsValid() {
		errs = append(errs, errors.New("the node has no address; give one that other routers reach"))
	}
	return errors.Join(errs...)
}

func orNone(p netip.Prefix) string {
	if !p.IsValid() {
		return "none"
	}
	return p.String()
}
