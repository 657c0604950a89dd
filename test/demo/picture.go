package main

import (
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// picture is the site, 80 columns at most and ASCII, for every terminal.
var picture = []string{
	"",
	"harouter: two routers that become one. A site out of network namespaces:",
	"",
	"                      +---- r1 ----+     +-- ISP cable, weight 2 --+",
	"  host h1 -- office --+     ||     +-----+                         +-- servers",
	"  192.168.77.100      +---- r2 ----+     +-- ISP dsl,   weight 1 --+",
	"",
	"  The host's gateway is 192.168.77.1. The master holds it, and the addresses",
	"  towards the ISPs; the other router stands by (|| is a cable between them).",
	"  In each step h1 pings its gateway, talks to servers and opens connections.",
	"",
}

// preemptDelay is how long a router that came back waits.
const preemptDelay = 2 * time.Second

// config is the one file of both routers.
var config = site.Replace(site.Config, "preempt_delay: 2s", "preempt_delay: "+preemptDelay.String())

// layout is the standard pair, with the ISPs named as the file names them.
func layout() netlab.Spec {
	spec := netlab.Pair(netlab.PairOptions{WANOwn: true})
	spec.ISPs[0].Name, spec.ISPs[1].Name = "cable", "dsl"
	return spec
}
