package balancer

import "slices"

// IPsec by policies has no device of its own: what comes out of a tunnel comes in
// once more by the uplink's device, and what goes into one looks as if it left
// there. The former was judged by the tunnel; the latter must keep its source, by
// which the tunnel knows it.

type (
	// OutOfTunnel matches packets that IPsec decrypted.
	OutOfTunnel struct{}
	// IntoTunnel matches packets that IPsec is about to encrypt.
	IntoTunnel struct{}
)

func (OutOfTunnel) stmt() {}
func (IntoTunnel) stmt()  {}

func (OutOfTunnel) String() string { return "meta secpath exists" }
func (IntoTunnel) String() string  { return "rt ipsec exists" }

// tunnels are the protocols of tunnels that the kernel ends by itself: IP and IPv6
// in IP, GRE, ESP, AH.
var tunnels = []uint8{4, 41, 47, 50, 51}

// WithoutIPsec is the table for a kernel without it (no XFRM).
func (t Table) WithoutIPsec() Table {
	out := Table{Sets: t.Sets}
	for _, c := range t.Chains {
		c.Rules = slices.DeleteFunc(slices.Clone(c.Rules), func(r Rule) bool {
			return slices.Contains(r, Stmt(OutOfTunnel{})) || slices.Contains(r, Stmt(IntoTunnel{}))
		})
		out.Chains = append(out.Chains, c)
	}
	return out
}
