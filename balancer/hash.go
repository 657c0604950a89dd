package balancer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
)

// Hash is the plan hash of DESIGN.md §4: what decides routing, and nothing that
// may differ between nodes (devices, gateways, own addresses, the role). Nodes
// with the same hash send the same flow out the same uplink.
func Hash(c Config, in Input) string {
	h := sha256.New()
	line := func(format string, args ...any) { _, _ = io.WriteString(h, fmt.Sprintf(format, args...)+"\n") }
	line("harouter plan 2 mask %#x", c.MarkMask)
	c = c.four()
	uplinks := slices.Clone(c.Uplinks)
	slices.SortFunc(uplinks, func(a, b Uplink) int { return a.ID - b.ID })
	for _, u := range uplinks {
		nat := "own"
		if len(u.Virtual) > 0 {
			nat = fmt.Sprint(u.Virtual)
		}
		line("uplink %q %d %s usable=%t nat=%s", u.Name, u.ID, in.Verdicts[u.Name], in.Usable[u.Name], nat)
	}
	for _, d := range c.doings(in) {
		line("policy %q %s %q %s router=%t match:%s persistence=%s %s move=%t %d",
			d.Name, d.Method, d.Uplinks, d.outcome, d.Router, d.Match.key(c.Lans), d.Persistence, d.Learned, d.Move, d.slots)
	}
	for _, n := range c.Networks {
		line("network %s gateway=%s source=%s masquerade=%t", n.To, n.Gateway, n.Source, n.Masquerade)
	}
	return hex.EncodeToString(h.Sum(nil))
}
