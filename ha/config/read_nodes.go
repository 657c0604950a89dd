package config

import (
	"fmt"
	"net/netip"
)

// maxNodes is what our own 169.254.V.N addresses can tell apart.
const maxNodes = 254

// maxPaths is more than a router has ways to another one; gossip uses them all.
const maxPaths = 8

func (d *decoder) nodes(t *table) []Node {
	const allowed = "one entry for each router, such as r1: {address: 192.0.2.1}"
	f := t.field("nodes").required(allowed)
	all := d.table(f.v, t.at, "nodes")
	defer all.close()
	var nodes []Node
	for _, e := range all.all() {
		if len(nodes) == maxNodes {
			d.fail(e.key, "nodes: more than %d of them; allowed: 1 to %d", maxNodes, maxNodes)
			break
		}
		nodes = append(nodes, d.node(e))
	}
	if f.v != nil && !all.broken && len(all.entries) == 0 {
		d.fail(f.v, "nodes: none stands here; allowed: %s", allowed)
	}
	return nodes
}

func (d *decoder) node(e entry) Node {
	n := defaultNode()
	n.Name = e.key.text
	if _, err := name(maxHostName)(e.key); err != nil {
		d.refuse(e.key, "nodes", err)
	}
	t := d.table(e.value, e.key, "nodes."+n.Name)
	if e.value.kind == null {
		t.at = e.key
	}
	defer t.close()
	own := func(v *value, a netip.Addr) {
		if n.Addresses = append(n.Addresses, a); len(n.Addresses) == 1 {
			d.facts.first = append(d.facts.first, claim{addr: a, who: "node " + n.Name, v: v})
		}
		d.facts.own(a, "", "node "+n.Name, v)
	}
	var one netip.Addr
	single := take(t, "address", &one, oneHost)
	if single.ok {
		own(single.v, one)
	}
	several := each(t, "addresses", nodeHost, own)
	take(t, "priority", &n.Priority, number[uint8](1, 254))
	d.devices(t.sub("devices"), &n)
	switch {
	case single.v == nil && several.v == nil:
		single.required("an IP address of this node that the others reach, such as 192.0.2.1")
	case single.v != nil && several.v != nil:
		d.fail(several.key, "%s: address and addresses both stand here; allowed: one of them", t.path)
	case several.empty():
		d.fail(several.at(), "%s: no address stands here; allowed: 1 to %d IP addresses, the best path first", several.path(), maxPaths)
	case several.v != nil && len(several.v.items) > maxPaths:
		d.fail(several.v.items[maxPaths], "%s: %d addresses; allowed: 1 to %d", several.path(), len(several.v.items), maxPaths)
	}
	return n
}

func oneHost(v *value) (netip.Addr, error) {
	if v.kind == list {
		return netip.Addr{}, fmt.Errorf("a list stands here; allowed: one IP address (a list is written as addresses: [192.0.2.1, 192.0.3.1])")
	}
	return nodeHost(v)
}

func nodeHost(v *value) (netip.Addr, error) {
	a, err := host(v)
	if err == nil {
		err = nodeAddress(a)
	}
	return a, err
}

func (d *decoder) devices(t *table, n *Node) {
	for _, e := range t.all() {
		dev, err := device(e.value)
		if err != nil {
			d.refuse(e.value, join2(t.path, e.key.text), err)
			continue
		}
		if n.Devices == nil {
			n.Devices = map[string]string{}
		}
		n.Devices[e.key.text] = dev
		d.facts.devices = append(d.facts.devices, override{node: n.Name, link: e.key, device: e.value, path: fmt.Sprintf("%s.%s", t.path, e.key.text)})
	}
}
