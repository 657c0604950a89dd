package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// draft lays out the file, everything in it.
func (im *importer) draft() *draft {
	d := &draft{head: []string{
		"Written by harouter import from " + im.in.Conf.Path + ": behind each value stands where it",
		"came from. What is not taken, or what only you can know, is a comment.",
		"Change what you like, then run harouter check: it tells every mistake with its line.",
		"",
		"Net-ISP-Balance must not run beside harouter: disable load_balance.pl and foolsm (lsm), then",
		"restart the machine, which also takes away the iptables rules and routes that they made.",
	}}
	d.entries = append(d.entries, &entry{text: "cluster: " + plain(im.in.Cluster), must: true}, im.nodesEntry())
	for _, e := range []*entry{im.lansEntry(), im.uplinksEntry(), im.policiesEntry(), im.firewallEntry(), im.routesEntry(), im.mailEntry()} {
		if e != nil && len(e.below) > 0 {
			d.entries = append(d.entries, e)
		}
	}
	d.tail = im.tail()
	return d
}

const (
	alone    = "127.0.0.1"
	priority = 200
)

func (im *importer) nodesEntry() *entry {
	e := &entry{text: "nodes:", must: true, above: []string{
		"One entry for each router; this file is for one so far. A second one joins by itself:",
		"run harouter token here while harouter runs, and the line that it prints on the new",
		"router. Before that, give this router an address of its own beside the virtual ones",
		"(best on a direct cable to the other) and write it below, and take the virtual addresses",
		"out of the system's own network configuration: they move to the router that is master.",
	}}
	node := e.add(&entry{text: plain(im.in.Node) + ":"})
	if a := im.in.Address; a.IsValid() {
		node.add(&entry{text: "address: " + addressText(a), note: "as --address says"})
	} else {
		node.add(&entry{text: "address: " + alone, note: "PLACEHOLDER: good for one router alone"})
		im.warn(place{}, "the address of this node is a placeholder, %s, with which no second router can join; give the real one with --address IP, or write it into the file", alone)
	}
	node.add(&entry{text: fmt.Sprintf("priority: %d", priority), note: "1 to 254: the highest of the routers that work is master"})
	return e
}

func (im *importer) lansEntry() *entry {
	e := &entry{text: "lans:", box: true, above: []string{
		"The networks with your hosts. The virtual address is their gateway: it moves to the router",
		"that is master.",
	}}
	for _, l := range im.lans {
		first := l.services[0]
		var names []string
		for _, s := range l.services {
			names = append(names, s.name)
		}
		row := e.add(&entry{text: "- name: " + plain(l.name), note: came(first.at, "there "+strings.Join(names, " and ")), from: first.at})
		row.add(&entry{text: "device: " + plain(first.base()), from: first.columns["device"]})
		if len(l.virtual) == 1 {
			row.add(&entry{text: "virtual_addresses: [" + l.virtual[0].prefix.String() + "]", note: l.virtual[0].note, from: first.at})
			continue
		}
		list := row.add(&entry{text: "virtual_addresses:", from: first.at, box: true})
		for i, a := range l.virtual {
			at := l.services[i].at
			list.add(&entry{text: "- " + a.prefix.String(), note: came(at, a.note), from: at})
		}
	}
	return e
}

func (im *importer) uplinksEntry() *entry {
	e := &entry{text: "uplinks:", box: true, above: []string{
		"The lines to the internet. With a virtual address in the line's network that is yours and",
		"free, connections survive when a router dies; without one they break then.",
	}}
	probes := im.probeSettings()
	if len(probes) == 0 {
		e.above = append(e.above, "Nothing is said there about probes, so ours hold: down after 3.8 s at the latest, not after 7 to 9.")
	}
	for _, u := range im.uplinks {
		e.add(im.uplinkEntry(u, probes))
	}
	return e
}

func (im *importer) policiesEntry() *entry {
	e := &entry{text: "policies:", box: true}
	if len(im.forced) > 0 {
		e.above = append(e.above, "The first that matches wins. There the last one did, so their order is turned round.")
	}
	for i := len(im.forced) - 1; i >= 0; i-- {
		f := im.forced[i]
		e.add(&entry{text: "- {" + f.text() + "}", note: f.at.String(), from: f.at})
	}
	if len(im.uplinks) == 0 {
		return e
	}
	im.confinedEntries(e)
	switch mode := im.conf.mode; {
	case im.conf.failover:
		var names []string
		for _, u := range im.byPreference() {
			names = append(names, plain(u.name))
		}
		e.add(&entry{text: "- {name: default, method: priority, uplinks: [" + strings.Join(names, ", ") + "]}",
			note: came(mode, "mode=failover: the greatest weight first"), from: mode})
	case mode.sheet != nil:
		e.add(&entry{text: "- {name: default, method: weighted}", note: came(mode, "mode=balanced"), from: mode})
	default:
		e.add(&entry{text: "- {name: default, method: weighted}", note: "balanced, the default there", from: im.uplinks[0].service.at})
	}
	return e
}

// confinedEntries give the lans that may use some of the lines only a policy that
// keeps to them. There a share of what they began went to the others, which
// refused it.
func (im *importer) confinedEntries(e *entry) {
	method := "weighted"
	if im.conf.failover {
		method = "priority"
	}
	var order []string
	lans, from := map[string][]string{}, map[string]place{}
	for _, l := range im.lans {
		var at place
		allowed := map[*uplink]bool{}
		for _, g := range im.conf.groups {
			if !slices.ContainsFunc(g.words, func(w string) bool { return w == ":lan" || im.lanOf(w) == l }) {
				continue
			}
			for _, u := range im.uplinks {
				if slices.ContainsFunc(g.words, func(w string) bool { return w == ":isp" || im.uplinkOf(w) == u }) {
					allowed[u], at = true, g.at
				}
			}
		}
		if len(allowed) == 0 || len(allowed) == len(im.uplinks) {
			continue
		}
		var names []string
		for _, u := range im.byPreference() {
			if allowed[u] {
				names = append(names, plain(u.name))
			}
		}
		lines := strings.Join(names, ", ")
		if lans[lines] == nil {
			order, from[lines] = append(order, lines), at
		}
		lans[lines] = append(lans[lines], l.name)
	}
	for _, lines := range order {
		var names []string
		for _, l := range lans[lines] {
			names = append(names, plain(l))
		}
		lan := names[0]
		if len(names) > 1 {
			lan = "[" + strings.Join(names, ", ") + "]"
		}
		e.add(&entry{text: fmt.Sprintf("- {name: %s, match: {lan: %s}, method: %s, uplinks: [%s]}", plain("of-"+lans[lines][0]), lan, method, lines),
			note: came(from[lines], "forwarding_group: the other lines refuse it"), from: from[lines]})
	}
}

func (im *importer) firewallEntry() *entry {
	e := &entry{text: "firewall:", box: true}
	list := func(key string) *entry { return e.add(&entry{text: key + ":", box: true}) }
	groups := list("groups")
	for _, g := range im.conf.groups {
		groups.add(&entry{text: "- " + im.groupText(g), note: came(g.at, "forwarding_group"), from: g.at})
	}
	allows := list("allow")
	for _, a := range im.allows {
		allows.add(&entry{text: "- {" + a.text() + "}", note: a.at.String(), from: a.at})
	}
	forwards := list("forward")
	for _, f := range im.forwards {
		forwards.add(&entry{text: "- {" + f.text() + "}", note: f.at.String(), from: f.at})
	}
	e.below = slices.DeleteFunc(e.below, func(l *entry) bool { return len(l.below) == 0 })
	for _, l := range e.below {
		l.from = l.below[0].from
	}
	return e
}

// groupText makes names of ours from :lan, :isp and services.
func (im *importer) groupText(g group) string {
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, w := range g.words {
		l, u := im.lanOf(w), im.uplinkOf(w)
		switch {
		case w == ":isp":
			add(text(":uplinks"))
		case w == ":lan":
			for _, l := range im.lans {
				add(plain(l.name))
			}
		case l != nil:
			add(plain(l.name))
		case u != nil:
			add(plain(u.name))
		default:
			im.noService(g, w)
		}
	}
	return "[" + strings.Join(names, ", ") + "]"
}

func (im *importer) routesEntry() *entry {
	e := &entry{text: "routes:", box: true}
	for _, r := range im.routes {
		e.add(&entry{text: "- {" + r.text() + "}", note: r.at.String(), from: r.at})
		if e.from.sheet == nil {
			e.from = r.at
		}
	}
	return e
}

func (im *importer) mailEntry() *entry {
	o := im.conf.mail
	to := strings.FieldsFunc(o.value, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == ';' })
	if len(to) == 0 {
		return nil
	}
	for i := range to {
		to[i] = text(to[i])
	}
	e := &entry{text: "mail:", box: true, from: o.at}
	e.add(&entry{text: "to: [" + strings.Join(to, ", ") + "]", note: came(o.at, "warn_email"), from: o.at})
	return e
}

// tail lists what the file has not.
func (im *importer) tail() (out []string) {
	section := func(title string, r remarks) {
		if len(r.list) == 0 {
			return
		}
		if len(out) > 0 {
			out = append(out, "")
		}
		out = append(out, title)
		for _, r := range r.list {
			where := r.at.String()
			if r.line != "" {
				where += ": " + shown(r.line)
			}
			out = append(out, "  "+where)
			if r.text != "" {
				out = append(out, "    "+r.text)
			}
		}
		if r.more > 0 {
			out = append(out, fmt.Sprintf("  and %d more", r.more))
		}
	}
	section("Not in this file; look at each of them:", im.todo)
	section("Not needed any more:", im.obsolete)
	if len(im.copies) == 0 {
		return out
	}
	if len(out) > 0 {
		out = append(out, "")
	}
	out = append(out, "Scripts run unchanged, with the same 16 arguments; a service has the name that it has here.",
		"Copy them to the directory hooks beside this file, on every router:")
	for _, c := range im.copies {
		out = append(out, "  cp -p "+shellWord(c.path)+" hooks/"+c.to+"/")
	}
	return out
}

// shellWord is a path as the shell reads it.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@%=") == "" && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(printable(s), "'", `'\''`) + "'"
}

// copied is a script that is to be copied.
type copied struct{ path, to string }

// allow opens ports of the router.
type allow struct {
	at                 place
	from, proto, limit string
	ports              []string
	sources            []string
}

func (a allow) text() string {
	parts := []string{"from: " + plain(a.from)}
	if a.proto != "" {
		parts = append(parts, "protocol: "+plain(a.proto))
	}
	if len(a.ports) > 0 {
		parts = append(parts, "ports: ["+strings.Join(a.ports, ", ")+"]")
	}
	if len(a.sources) > 0 {
		parts = append(parts, "source: ["+strings.Join(a.sources, ", ")+"]")
	}
	if a.limit != "" {
		parts = append(parts, "limit: "+a.limit)
	}
	return strings.Join(parts, ", ")
}

// forward leads a port to a host.
type forward struct {
	at       place
	port, to string
	proto    string
	uplinks  []string
	sources  []string
	hairpin  bool
}

func (f forward) text() string {
	parts := []string{"port: " + f.port, "to: " + text(f.to), "protocol: " + plain(f.proto)}
	if len(f.uplinks) > 0 {
		parts = append(parts, "uplinks: ["+strings.Join(f.uplinks, ", ")+"]")
	}
	if len(f.sources) > 0 {
		parts = append(parts, "source: ["+strings.Join(f.sources, ", ")+"]")
	}
	if f.hairpin {
		parts = append(parts, "hairpin: true")
	}
	return strings.Join(parts, ", ")
}

// forced sends some traffic over one uplink.
type forced struct {
	at     place
	name   string
	match  []string // key: value
	uplink string
	key    string // the same for the same rule
}

func (f forced) text() string {
	parts := []string{"name: " + plain(f.name)}
	if len(f.match) > 0 {
		parts = append(parts, "match: {"+strings.Join(f.match, ", ")+"}")
	}
	return strings.Join(append(parts, "method: enforced", "uplinks: ["+plain(f.uplink)+"]"), ", ")
}

// route is a network that is reached another way.
type route struct {
	at              place
	to              netip.Prefix
	device          string
	gateway, source netip.Addr
	masquerade      bool
}

func (r route) text() string {
	to := r.to.String()
	if r.to.Addr().Is6() {
		to = text(to)
	}
	parts := []string{"to: " + to}
	if r.device != "" {
		parts = append(parts, "device: "+plain(r.device))
	}
	if r.gateway.IsValid() {
		parts = append(parts, "gateway: "+addressText(r.gateway))
	}
	if r.source.IsValid() {
		parts = append(parts, "source: "+addressText(r.source))
	}
	if r.masquerade {
		parts = append(parts, "masquerade: true")
	}
	return strings.Join(parts, ", ")
}
