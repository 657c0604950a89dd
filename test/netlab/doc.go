// Package netlab builds whole sites out of network namespaces on one machine:
// routers, ISPs, LANs with hosts, direct cables and an internet with servers,
// all joined by switches whose ports can be unplugged, cut one way, delayed
// and limited. It runs real binaries in the routers, keeps traffic flowing
// through the site and reports what that traffic felt, captures what was on
// the wire, and records which router held which address when.
//
// It owns the namespaces, processes and files whose names begin with the
// site's prefix (hr-PID-TOKEN-NODE) and nothing else: the namespace in which
// the caller runs is never changed. Only tests, test/demo and test/bench may
// import it; it imports nothing else of harouter.
//
// In a test:
//
//	func TestMain(m *testing.M) { netlab.Main(); os.Exit(m.Run()) }
//
//	site := netlab.ForTest(t, netlab.Pair(netlab.PairOptions{}))
//	site.Serve("net")
//	daemon, err := site.Router("r1").Start("harouter", binary, "run", …)
//	err = site.WaitHolder(gateway, "r1", 3*time.Second)
//	client, err := site.Load("h1", netlab.StandardLoad(server, gateway))
//	site.Mark("crash")
//	err = site.PowerOff("r1")
//	…
//	report, err := client.Stop()
//	if report.PingGapSince("crash") > bound+report.StallSince("crash") { … }
//
// A program that uses Load, Serve or StartRole calls Main first thing: the
// agents are the same executable, started again inside a namespace.
package netlab
