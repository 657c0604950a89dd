package importer

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// ask is a method of the balancer that gives something.
func (p *perl) ask(method string, args []val) ([]val, error) {
	var out []val
	switch method {
	case "lan_services", "isp_services", "service_names", "up":
		for _, s := range p.im.conf.services {
			if len(args) == 0 && (method == "service_names" || (s.role == "lan") == (method == "lan_services")) {
				out = append(out, val{text: s.name})
			}
		}
		return out, nil
	}
	if len(args) != 1 || args[0].isRef || args[0].undef {
		return nil, fmt.Errorf("$B->%s", method)
	}
	var svc *service
	for _, s := range p.im.conf.services {
		if s.name == args[0].text {
			svc = s
		}
	}
	if svc == nil {
		return nil, fmt.Errorf("$B->%s of %s, which is no service", method, quoted(args[0].text))
	}
	switch method {
	case "dev", "vdev":
		return one(svc.base()), nil
	case "role":
		return one(svc.role), nil
	case "mark_table":
		return one("MARK-" + svc.name), nil
	case "net", "ip":
		if a := p.im.addressOf(svc); a.IsValid() {
			if method == "net" {
				return one(a.Masked().String()), nil
			}
			return one(a.Addr().String()), nil
		}
	}
	return nil, fmt.Errorf("$B->%s(%s)", method, quoted(svc.name))
}

// addressOf is the address of a lan; those of lines may be others tomorrow.
func (im *importer) addressOf(svc *service) netip.Prefix {
	l := im.lanOf(svc.name)
	if l == nil {
		return netip.Prefix{}
	}
	for i, s := range l.services {
		if s == svc {
			return l.virtual[i].prefix
		}
	}
	return netip.Prefix{}
}

// flat are the arguments as texts.
func flat(args []val) (out []string, err error) {
	for _, a := range args {
		if a.isRef {
			return nil, errPerl
		}
		out = append(out, a.text)
	}
	return out, nil
}

// call is a method of the balancer that does something.
func (p *perl) call(method string, args []val) error {
	if p.other && (method == "force_route" || method == "firewall_rule") {
		return fmt.Errorf("a call after a firewall_op that is not read here")
	}
	switch method {
	case "iptables":
		for _, a := range args {
			if !a.isRef {
				continue
			}
			all, err := flat(a.list)
			if err != nil || len(args) != 1 {
				return errPerl
			}
			for _, line := range all {
				p.rule("", line)
			}
			return nil
		}
		all, err := flat(args)
		p.rule("", strings.Join(all, " "))
		return err
	case "ip_route", "ip_rule", "sh":
		all, err := flat(args)
		if err != nil {
			return err
		}
		before := map[string]string{"ip_route": "ip route ", "ip_rule": "ip rule "}[method]
		p.im.shell(p.at, before+strings.Join(all, " "))
		return nil
	case "firewall_op":
		all, err := flat(args)
		if err != nil || len(all) != 1 {
			return errPerl
		}
		p.deleting, p.other = all[0] == "delete", all[0] != "delete" && all[0] != "append"
		return nil
	case "forward", "forward_with_snat":
		return p.forward(args, method == "forward_with_snat")
	case "force_route":
		return p.forceRoute(args)
	case "firewall_rule":
		return p.firewallRule(args)
	case "add_route":
		return p.addRoute(args)
	case "enable_forwarding":
		p.im.needless(p.at, p.line, "forwarding is on and stays on")
		return nil
	}
	return fmt.Errorf("$B->%s", method)
}

// op is the iptables operation that firewall_op has set.
func (p *perl) op() string {
	if p.deleting {
		return "-D"
	}
	return "-A"
}

func (p *perl) rule(before, line string) {
	line = before + line
	words, err := shellWords(line)
	if err != nil {
		p.im.later(p.at, "iptables "+line, err.Error()+" in a rule is not read; "+inNft)
		return
	}
	p.im.iptables(p.at, "iptables "+line, words)
}

func (p *perl) forward(args []val, hairpin bool) error {
	all, err := flat(args)
	if err != nil || len(all) < 2 {
		return errPerl
	}
	number, err := port(all[0])
	if err != nil {
		return err
	}
	host, at, has := strings.Cut(all[1], ":")
	to := host
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("a forward to %s, which is no IP address", quoted(all[1]))
	}
	if has {
		target, err := port(at)
		if err != nil {
			return err
		}
		to = host + ":" + target
	}
	protocols := all[2:]
	if len(protocols) == 0 {
		protocols = []string{"tcp"}
	}
	for _, proto := range protocols {
		if !plainWord.MatchString(proto) {
			return errPerl
		}
		p.im.forward(forward{at: p.at, port: number, to: to, proto: strings.ToLower(proto), hairpin: hairpin})
	}
	return nil
}

// bare options get their second hyphen, as the original does it.
var bare = regexp.MustCompile(`^-[a-zA-Z0-9_-]*[a-zA-Z0-9]{2}`)

func options(all []string) string {
	for i, w := range all {
		if bare.MatchString(w) && !strings.HasPrefix(w, "--") && !strings.Contains(w, " ") {
			all[i] = "-" + w
		}
	}
	return strings.Join(all, " ")
}

func (p *perl) forceRoute(args []val) error {
	all, err := flat(args)
	if err != nil || len(all) < 1 {
		return errPerl
	}
	u := p.im.uplinkOf(all[0])
	if u == nil {
		return fmt.Errorf("%s is no line here", quoted(all[0]))
	}
	p.rule("", fmt.Sprintf("-t mangle %s PREROUTING %s -j MARK-%s", p.op(), options(all[1:]), u.service.name))
	return nil
}

// firewallRule is firewall_rule(CHAIN => table, selectors).
func (p *perl) firewallRule(args []val) error {
	all, err := flat(args)
	if err != nil || len(all) < 3 {
		return errPerl
	}
	table := "filter"
	if all[1] != "" {
		table = all[1]
	}
	p.rule("", fmt.Sprintf("-t %s %s %s %s", table, p.op(), all[0], options(all[2:])))
	return nil
}

func (p *perl) addRoute(args []val) error {
	all, err := flat(args)
	if err != nil || len(all) < 2 || len(all) > 3 {
		return errPerl
	}
	to, err := network(all[0])
	if err != nil || prefix(to).Bits() == 0 {
		return fmt.Errorf("%s is no network", quoted(all[0]))
	}
	if !deviceName.MatchString(all[1]) || strings.Contains(all[1], ":") {
		return fmt.Errorf("%s is no device", quoted(all[1]))
	}
	p.im.addRoute(route{at: p.at, to: prefix(to), device: all[1], masquerade: len(all) == 3 && all[2] != "" && all[2] != "0"})
	return nil
}
