package balancer

import (
	"fmt"
	"strings"
)

func side(output bool) string {
	if output {
		return "oifname"
	}
	return "iifname"
}

func not(n bool) string {
	if n {
		return "!= "
	}
	return ""
}

func (s Family4) String() string { return "meta nfproto " + not(s.Not) + "ipv4" }
func (s InSet) String() string   { return side(s.Output) + " " + not(s.Not) + "@" + s.Set }
func (s ProtoIn) String() string { return "meta nfproto " + not(s.Not) + "@" + s.Set }

func (s AddrIn) String() string {
	family, side := "ip", "saddr"
	if s.Six {
		family = "ip6"
	}
	if s.Dst {
		side = "daddr"
	}
	return family + " " + side + " @" + s.Set
}

func (s FibType) String() string {
	key := "daddr"
	if s.Source {
		key = "saddr"
	}
	if s.OnOutput {
		key += " . oif"
	}
	return "fib " + key + " type " + not(s.Not) + s.Type
}

func (s State) String() string {
	var names []string
	for _, n := range []struct {
		bit  CtState
		name string
	}{{CtInvalid, "invalid"}, {CtEstablished, "established"}, {CtRelated, "related"}, {CtNew, "new"}} {
		if s.States&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	return "ct state " + strings.Join(names, ",")
}

func zero(not bool) string {
	if not {
		return "=="
	}
	return "!="
}

func (s CtMarked) String() string { return fmt.Sprintf("ct mark & %#08x %s 0", s.Mask, zero(s.Not)) }
func (s MetaMarked) String() string {
	return fmt.Sprintf("meta mark & %#08x %s 0", s.Mask, zero(s.Not))
}

func (Unmarked) String() string { return "meta mark 0" }
func (s CtMarkIn) String() string {
	return fmt.Sprintf("ct mark & %#08x @%s", s.Mask, s.Set)
}
func (s CopyMark) String() string {
	return fmt.Sprintf("meta mark set ct mark & %#08x", s.Mask)
}
func (s CameIn) String() string {
	if s.Not {
		return "meta iif 0"
	}
	return "meta iif != 0"
}

func (s TCPFlags) String() string {
	op := "=="
	if s.Not {
		op = "!="
	}
	return fmt.Sprintf("tcp flags & (%s) %s %s", tcpFlags(s.Mask), op, tcpFlags(s.Value))
}

func tcpFlags(b uint8) string {
	var names []string
	for _, n := range []struct {
		bit  uint8
		name string
	}{{flagFIN, "fin"}, {flagSYN, "syn"}, {flagRST, "rst"}, {flagACK, "ack"}} {
		if b&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, " | ")
}

func (EchoRequest) String() string { return "icmp type echo-request" }
func (NoListener) String() string {
	return "icmp type destination-unreachable icmp code 2-3"
}

func (Neighbour) String() string {
	return "icmpv6 type 135-136"
}

// Listener reads a property of the socket and accepts any value: without a
// socket the rule does not match.
func (Listener) String() string { return "socket mark & 0x0 == 0x0" }

func (s VMap) String() string {
	key := ""
	switch s.By {
	case ByInput:
		key = "iifname"
	case ByOutput:
		key = "oifname"
	case ByCtMark:
		key = fmt.Sprintf("ct mark & %#08x", s.Mask)
	case ByRandom:
		key = fmt.Sprintf("numgen random mod %d", SlotCount)
	case BySaddr:
		key = "ip saddr"
	case ByDaddr:
		key = "ip daddr"
	case ByProtocol:
		key = "meta l4proto"
	case BySport:
		key = "th sport"
	case ByDport:
		key = "th dport"
	case ByTOS:
		key = "@nh,8,8"
	case ByMAC:
		key = "ether saddr"
	case ByHash:
		key = fmt.Sprintf("jhash %s mod %d seed %#x", ends(s.Of), SlotCount, HashSeed)
	}
	return key + " vmap @" + s.Map
}

// HashSeed is the seed of jhash: the same on all nodes.
const HashSeed = 0x68617231

// ends are the addresses of a packet that a policy keeps together.
func ends(k PersistenceKey) string {
	switch k {
	case BySource:
		return "ip saddr"
	case ByDestination:
		return "ip daddr"
	case BySourceDestination:
	}
	return "ip saddr . ip daddr"
}

func (s Learned) String() string { return ends(s.Of) + " @" + s.Set }

func (s Learn) String() string {
	return fmt.Sprintf("update @%s { %s timeout %ds }", s.Set, ends(s.Of), int(s.Lasts.Seconds()))
}

func (s SetCtMark) String() string {
	return fmt.Sprintf("ct mark set ct mark & %#08x | %#08x", ^s.Mask, s.Value)
}
func (s SetMetaMark) String() string {
	return fmt.Sprintf("meta mark set meta mark & %#08x | %#08x", ^s.Mask, s.Value)
}
func (Counter) String() string    { return "counter" }
func (s SNAT) String() string     { return "snat ip to " + s.To.String() }
func (Masquerade) String() string { return "masquerade" }
func (Reset) String() string      { return "reject with tcp reset" }
func (s Jump) String() string     { return strings.TrimSpace(s.Kind + " " + s.Chain) }

// String is the table in the form that nft -f reads.
func (t Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", TableName)
	for _, s := range t.Sets {
		kind, typ := "set", s.Key.String()
		if s.Verdicts {
			kind, typ = "map", typ+" : verdict"
		}
		fmt.Fprintf(&b, "\t%s %s {\n\t\t%s\n", kind, s.Name, typ)
		switch {
		case s.Lasts > 0:
			fmt.Fprintf(&b, "\t\tsize %d\n\t\tflags dynamic,timeout\n\t\ttimeout %ds\n", s.Size(), int(s.Lasts.Seconds()))
		case s.Room > 0:
			fmt.Fprintf(&b, "\t\tsize %d\n", s.Room)
		case s.Timeout:
			b.WriteString("\t\tflags timeout\n")
		case s.Interval:
			b.WriteString("\t\tflags interval\n")
		}
		if len(s.Elements) > 0 {
			var words []string
			for _, e := range s.Elements {
				w := e.keyText(s.Key)
				if s.Interval {
					w = e.spanText(s.Key)
				}
				if s.Verdicts {
					w += " : " + e.Verdict.String()
				}
				words = append(words, w)
			}
			fmt.Fprintf(&b, "\t\telements = { %s }\n", strings.Join(words, ", "))
		}
		b.WriteString("\t}\n")
	}
	for _, c := range t.Chains {
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		if c.Hook != "" {
			fmt.Fprintf(&b, "\t\ttype %s hook %s priority %d; policy accept;\n", c.Type, c.Hook, c.Priority)
		}
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "\t\t%v\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}
