package importer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ipCommand takes the words behind ip.
func (im *importer) ipCommand(at place, line string, words []string) {
	for len(words) > 0 && strings.HasPrefix(words[0], "-") {
		words = words[1:]
	}
	if len(words) < 2 {
		im.later(at, line, otherCommand)
		return
	}
	object, verb, rest := words[0], words[1], words[2:]
	switch {
	case object == "rule" && slices.Contains([]string{"add", "a"}, verb):
		im.later(at, line, ruleInstead(rest))
	case object != "route" && object != "ro" && object != "r":
		im.later(at, line, otherCommand)
	case !slices.Contains([]string{"add", "append", "replace", "change"}, verb):
		im.later(at, line, "it changes routes that others made; routes: of this file has those that are to be there")
	default:
		im.routeAdd(at, line, rest)
	}
}

// ruleInstead proposes a policy for an ip rule.
func ruleInstead(words []string) string {
	match := "…"
	for i := 0; i+1 < len(words); i++ {
		if words[i] == "from" && words[i+1] != "all" {
			match = "source: " + shown(words[i+1])
		} else if words[i] == "to" {
			match = "destination: " + shown(words[i+1])
		}
	}
	return "write a policy: policies: [{name: NAME, match: {" + match + "}, method: enforced, uplinks: [NAME]}]"
}

const otherCommand = "a command of its own; what must be done at each start or change goes into a script hooks/post-apply.d/NAME"

func (im *importer) routeAdd(at place, line string, words []string) {
	r := route{at: at}
	table := false
	bad := func(text string) { im.later(at, line, text) }
	for i := 0; i < len(words); i++ {
		w := words[i]
		arg := ""
		switch w {
		case "via", "dev", "src", "table", "metric", "proto", "protocol", "scope", "mtu", "advmss":
			if i+1 == len(words) {
				bad(fmt.Sprintf("nothing stands behind %s", w))
				return
			}
			i++
			arg = words[i]
		}
		var err error
		switch w {
		case "via":
			r.gateway, err = netip.ParseAddr(arg)
		case "src":
			r.source, err = netip.ParseAddr(arg)
		case "dev":
			if r.device = arg; !deviceName.MatchString(arg) || strings.Contains(arg, ":") {
				err = fmt.Errorf("no device")
			}
		case "table":
			table = arg != "main" && arg != "254"
		case "metric", "proto", "protocol", "scope", "onlink":
		case "default":
			im.needless(at, line, "every line has its default route from its gateway")
			return
		default:
			var to string
			if to, err = network(w); err != nil || r.to.IsValid() {
				bad(fmt.Sprintf("%s: routes: of this file has {to, device, gateway, source, masquerade}", shown(w)))
				return
			}
			r.to = prefix(to)
		}
		if err != nil {
			bad(fmt.Sprintf("%s %s: routes: of this file has {to, device, gateway, source, masquerade}", w, shown(arg)))
			return
		}
	}
	switch {
	case r.to.IsValid() && r.to.Bits() == 0:
		im.needless(at, line, "every line has its default route from its gateway")
	case !r.to.IsValid() || r.device == "" && !r.gateway.IsValid():
		bad("routes: of this file has {to, device, gateway, source, masquerade}")
	case table:
		im.needless(at, line, "what routes: has, and every other route in the table main, holds for all lines")
		if !slices.ContainsFunc(im.routes, func(o route) bool { return o.to == r.to }) {
			im.later(at, line, fmt.Sprintf("a route in a table of its own; if it is for all traffic: routes: [{%s}]", r.text()))
		}
	default:
		im.addRoute(r)
	}
}

// addRoute adds one, once.
func (im *importer) addRoute(r route) {
	for i := range im.routes {
		if o := &im.routes[i]; o.to == r.to && o.device == r.device && o.gateway == r.gateway {
			o.masquerade = o.masquerade || r.masquerade
			return
		}
	}
	if !im.full(r.at, len(im.routes)) {
		im.routes = append(im.routes, r)
	}
}

// prefix is a network that network has written.
func prefix(s string) netip.Prefix {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, _ := netip.ParsePrefix(s)
	return p
}
