package dataplane

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"harouter/balancer"
)

// Refused returns how many packets the firewall dropped, by reason. A chain that
// is written anew begins at 0; where the firewall is off there are no reasons.
func Refused() (map[string]uint64, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	out := map[string]uint64{}
	for _, reason := range balancer.Refusals {
		rules, err := c.GetRules(ourTable, &nftables.Chain{Table: ourTable, Name: balancer.RefusalChain(reason)})
		if err != nil {
			return nil, fmt.Errorf("read what the firewall dropped as %s: %w", reason, err)
		}
		for _, r := range rules {
			for _, e := range r.Exprs {
				if n, ok := e.(*expr.Counter); ok {
					out[reason] += n.Packets
				}
			}
		}
	}
	return out, nil
}
