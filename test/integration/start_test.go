package integration

import (
	"testing"

	"harouter/test/netlab"
	"harouter/test/site"
)

func TestPairStarts(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	out, err := c.Command("r2", "status")
	must(t, err)
	t.Log("\n" + out)
}
