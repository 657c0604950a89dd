package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// passRules compares the ip rules, and adds what lacks. What is too much is
// returned: it goes when nothing needs it any more.
func (k *Kernel) passRules(p *balancer.Plan, write bool) (d difference, surplus []netlink.Rule) {
	have, whole, err := k.ourRules()
	if err == nil && !whole && !write {
		err = errInterrupted
	}
	if err != nil {
		d.err = fmt.Errorf("read the ip rules: %w", err)
		return d, nil
	}
	want, there := map[string]bool{}, map[string]bool{}
	for _, r := range p.Rules {
		rule := kernelRule(r)
		id := ruleID(rule)
		want[id] = true
		if _, ok := have[id]; ok {
			there[id] = true
			continue
		}
		d.change = true
		if write {
			if err := k.routes.RuleAdd(&rule); err != nil && !errors.Is(err, unix.EEXIST) {
				d.err = errors.Join(d.err, fmt.Errorf("add the ip rule %v: %w", r, err))
				continue
			}
			there[id] = true
		}
		if whole && k.wrote.rules[id] {
			d.damage("%v", r)
		}
	}
	for id, rule := range have {
		if want[id] {
			continue
		}
		d.change = true
		surplus = append(surplus, rule)
		if k.wrote.rules != nil && !k.wrote.rules[id] {
			d.damage("one too much with priority %d", rule.Priority)
		}
	}
	if write {
		k.wrote.rules = there
	}
	return d, surplus
}

// errInterrupted: the kernel's state changed while it was read, again and again.
var errInterrupted = errors.New("it changes all the time")

// dumpTries is how often a list is read that changed meanwhile.
const dumpTries = 5

// ourRules are the rules with our protocol number, whatever their priority;
// whole: nothing changed while they were read.
func (k *Kernel) ourRules() (out map[string]netlink.Rule, whole bool, err error) {
	var all []netlink.Rule
	for range dumpTries {
		if all, err = k.routes.RuleList(netlink.FAMILY_V4); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, false, err
	}
	out = map[string]netlink.Rule{}
	for _, r := range all {
		if r.Protocol == balancer.Protocol {
			out[ruleID(r)] = r
		}
	}
	return out, err == nil, nil
}

func kernelRule(r balancer.IPRule) netlink.Rule {
	rule := *netlink.NewRule()
	rule.Family, rule.Protocol = netlink.FAMILY_V4, balancer.Protocol
	rule.Priority, rule.Table = r.Priority, r.Table
	if r.From.IsValid() {
		rule.Src = &net.IPNet{IP: r.From.AsSlice(), Mask: net.CIDRMask(32, 32)}
	}
	if r.Mask != 0 {
		mask := r.Mask
		rule.Mark, rule.Mask = r.Mark, &mask
	}
	if r.Local {
		rule.IifName = "lo"
	}
	if r.Specific {
		rule.SuppressPrefixlen = 0
	}
	if r.Of.Source.IsValid() {
		rule.Src = ipNet(r.Of.Source)
	}
	if r.Of.Destination.IsValid() {
		rule.Dst = ipNet(r.Of.Destination)
	}
	rule.IPProto = int(r.Of.Protocol)
	rule.Sport, rule.Dport = portRange(r.Of.SourcePorts), portRange(r.Of.DestinationPorts)
	return rule
}

// ipNet is nil for a prefix of length 0, as the kernel tells it.
func ipNet(p netip.Prefix) *net.IPNet {
	if p.Bits() == 0 {
		return nil
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func portRange(p balancer.Ports) *netlink.RulePortRange {
	if p == (balancer.Ports{}) {
		return nil
	}
	return netlink.NewRulePortRange(p.First, p.Last)
}

// ruleID is all that makes one of our rules what it is.
func ruleID(r netlink.Rule) string {
	src := ""
	if r.Src != nil {
		src = r.Src.String()
	}
	mask := uint32(0)
	if r.Mask != nil {
		mask = *r.Mask
	}
	dst, sport, dport := "", netlink.RulePortRange{}, netlink.RulePortRange{}
	if r.Dst != nil {
		dst = r.Dst.String()
	}
	if r.Sport != nil {
		sport = *r.Sport
	}
	if r.Dport != nil {
		dport = *r.Dport
	}
	return fmt.Sprint(r.Priority, " ", r.Table, " ", src, " ", r.Mark, "/", mask, " ", r.IifName, " ", r.SuppressPrefixlen,
		" ", dst, " ", r.IPProto, " ", sport, " ", dport)
}

func (k *Kernel) removeRules(rules []netlink.Rule) error {
	var failed error
	for _, rule := range rules {
		if err := k.routes.RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) {
			failed = errors.Join(failed, fmt.Errorf("remove the ip rule with priority %d: %w", rule.Priority, err))
		}
	}
	return failed
}
