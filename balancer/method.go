package balancer

import (
	"fmt"
	"slices"
)

// Method is how a policy spreads new flows over its uplinks.
type Method uint8

const (
	Weighted        Method = iota // share = weight / sum of weights
	Priority                      // the first usable uplink takes all
	Overflow                      // the first that is not full
	Persistence                   // same source and destination, same uplink
	LeastUsed                     // by free bandwidth
	LowestLatency                 // the quickest to answer
	Enforced                      // the named one, up or down
	FastestResponse               // who answers the destination first
)

var methodNames = [...]string{
	Weighted: "weighted", Priority: "priority", Overflow: "overflow", Persistence: "persistence",
	LeastUsed: "least-used", LowestLatency: "lowest-latency", Enforced: "enforced", FastestResponse: "fastest-response",
}

// Measures tells whether the shares follow from what is measured: Input.Shares,
// not the weights, say then who owns how many slots.
func (m Method) Measures() bool { return m == Overflow || m == LeastUsed || m == LowestLatency }

func (m Method) String() string {
	if int(m) < len(methodNames) {
		return methodNames[m]
	}
	return fmt.Sprintf("method(%d)", uint8(m))
}

// ParseMethod reads the word that the file uses.
func ParseMethod(s string) (Method, error) {
	i := slices.Index(methodNames[:], s)
	if i < 0 {
		return 0, fmt.Errorf("read method %q: want one of %v", s, methodNames)
	}
	return Method(i), nil
}
