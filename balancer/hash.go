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
	line("harouter plan 1 mask %#x", c.MarkMask)
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
	for _, p := range c.Policies {
		line("policy %q %s %q %d", p.Name, p.Method, p.Uplinks, c.slots(p, in))
	}
	return hex.EncodeToString(h.Sum(nil))
}
