package integration

import (
	"testing"

	"harouter/test/netlab"
)

func TestHoldDev(t *testing.T) {
	c := installed(t, netlab.PairOptions{}, measured("method: weighted"))
	cable, err := c.ISP("isp1").Port("wan0").Emulate(netlab.Line{}, netlab.Line{})
	must(t, err)
	dsl, err := c.ISP("isp2").Port("wan0").Emulate(netlab.Line{}, netlab.Line{})
	must(t, err)
	must(t, c.Up("r2"))
	heldResponse(t, c, cable, dsl)
}
