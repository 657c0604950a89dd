package dataplane

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// applyRules makes the ip rules agree: what lacks is added before what is too
// much goes.
func (k *Kernel) applyRules(p balancer.Plan) error {
	have, err := k.ourRules()
	if err != nil {
		return err
	}
	var failed error
	want := map[string]bool{}
	for _, r := range p.Rules {
		rule := kernelRule(r)
		id := ruleID(rule)
		want[id] = true
		if _, ok := have[id]; ok {
			continue
		}
		if err := k.routes.RuleAdd(&rule); err != nil && !errors.Is(err, unix.EEXIST) {
			failed = errors.Join(failed, fmt.Errorf("add the ip rule %v: %w", r, err))
		}
	}
	for id, rule := range have {
		if want[id] {
			continue
		}
		if err := k.routes.RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) {
			failed = errors.Join(failed, fmt.Errorf("remove the ip rule with priority %d: %w", rule.Priority, err))
		}
	}
	return failed
}

// ourRules are the rules with our protocol number, whatever their priority.
func (k *Kernel) ourRules() (map[string]netlink.Rule, error) {
	all, err := k.routes.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("read the ip rules: %w", err)
	}
	out := map[string]netlink.Rule{}
	for _, r := range all {
		if r.Protocol == balancer.Protocol {
			out[ruleID(r)] = r
		}
	}
	return out, nil
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
	return rule
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
	return fmt.Sprint(r.Priority, " ", r.Table, " ", src, " ", r.Mark, "/", mask, " ", r.IifName, " ", r.SuppressPrefixlen)
}

func (k *Kernel) removeRules() error {
	have, err := k.ourRules()
	if err != nil {
		return err
	}
	var failed error
	for _, rule := range have {
		if err := k.routes.RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) {
			failed = errors.Join(failed, fmt.Errorf("remove the ip rule with priority %d: %w", rule.Priority, err))
		}
	}
	return failed
}
