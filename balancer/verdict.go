package balancer

import "fmt"

// Verdict is what one node thinks of one uplink. The zero value is Unknown.
type Verdict uint8

const (
	// Unknown means that this node cannot tell: no round yet, or it can only
	// see that the gateway answers ARP.
	Unknown Verdict = iota
	// Up means that the configured probes are answered.
	Up
	// Degraded means that they are answered, but loss, latency or jitter is
	// over its threshold. It still carries traffic.
	Degraded
	// Down means no carrier, or that the probes are not answered.
	Down
	// Disabled means that a person took it out; no probe says that.
	Disabled
)

var verdictNames = [...]string{
	Unknown:  "unknown",
	Up:       "up",
	Degraded: "degraded",
	Down:     "down",
	Disabled: "disabled",
}

// String returns the word that status and the log show.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// Usable says whether the uplink may be given new flows on this verdict alone.
// Unknown is not usable here; whoever builds the pool decides what becomes of
// an uplink that nobody can judge.
func (v Verdict) Usable() bool { return v == Up || v == Degraded }

// A degraded uplink counts with a quarter of its weight.
const (
	whole   = 4
	quarter = 1
)

// UsableWeight is what an uplink of that weight is worth on this verdict alone,
// in quarters: four times its weight when Up, once when Degraded, else nothing.
// Slots are shared out by it, and nodes may compare their fitness by its sum.
func (v Verdict) UsableWeight(weight int) int {
	switch v {
	case Up:
		return whole * weight
	case Degraded:
		return quarter * weight
	case Unknown, Down, Disabled:
	}
	return 0
}

// MarshalText writes the word of String; a value that is none of the named
// ones is an error.
func (v Verdict) MarshalText() ([]byte, error) {
	if int(v) >= len(verdictNames) {
		return nil, fmt.Errorf("write verdict %d: no such verdict", uint8(v))
	}
	return []byte(verdictNames[v]), nil
}

// UnmarshalText reads what MarshalText writes, exactly.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdictNames {
		if name == string(text) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("read verdict %q: want unknown, up, degraded, down or disabled", text)
}
