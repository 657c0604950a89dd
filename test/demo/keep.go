package main

import (
	"fmt"
	"strings"

	"harouter/test/site"
)

// keepSite leaves the site standing and says how to look around in it, to break
// it, and to take it down.
func keepSite(c *site.Cluster, screen *screen) error {
	commands, err := c.Keep()
	if err != nil {
		return err
	}
	last := len(commands) - 1
	in := func(node string) string { return "ip netns exec " + c.Node(node).Namespace() + " " }
	port := func(name, state string) string { return "ip -n " + c.Prefix + "-sw link set " + name + " " + state }
	show := func(title string, lines ...string) {
		screen.Print("", screen.bold(title))
		for _, l := range lines {
			screen.Print("  " + l)
		}
	}
	show("The site stays. Paste this into a shell of root first:", function(c, "r1"), function(c, "r2"))
	show("What the routers say:", "r1 status --watch", "r2 status")
	show("The host's view of its gateway, and of a server on the internet:",
		in("h1")+"ping -O -i 0.2 "+site.LANAddress.String(), in("h1")+"ping -O -i 0.2 "+site.Server.String())
	show("On the wire (where tcpdump is installed):", in("r1")+"tcpdump -lni lan0 'vrrp or arp'")
	show("Hand the role over, and let the priorities decide again:", "r1 failover", "r1 failover --auto")
	show("Pull the plug of r1's LAN port, and put it back:", port("r1-lan0", "down"), port("r1-lan0", "up"))
	show("Cut ISP dsl off from the internet, and mend it:", port("dsl-core0", "down"), port("dsl-core0", "up"))
	if p := c.Daemons["r1"]; p != nil {
		show("Kill the daemon on r1, start it again, read its log:", fmt.Sprintf("kill -9 %d", p.PID),
			"r1 run 2>>"+p.Log+" &", "tail -f "+p.Log)
	}
	show("A shell in a node:", commands[:last]...)
	show("Take it all down:", commands[last])
	screen.Print("")
	return nil
}

// function is a function of the shell that runs harouter's commands on a router.
func function(c *site.Cluster, router string) string {
	return fmt.Sprintf(`%s() { ip netns exec %s %s "$@"; }`, router, c.Router(router).Namespace(), strings.Join(c.Args(router), " "))
}
