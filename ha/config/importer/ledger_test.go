package importer

import (
	"testing"

	"harouter/test/ledger"
)

// caseGroup is one case group of the original's own test file (research/multiwan-peers.md
// §1e, by its numbers), and our tests of it: what import makes of it, what plan
// gives, and what packets do. A test is named as in test/ledger.
type caseGroup struct {
	what                  string
	imported, plan, truth []string
	missing               string // why one kind of test is not there
}

const (
	plans   = "/cmd/harouter.TestTheirCases/"
	packets = "/test/integration.TestCases/"
	plane   = "/balancer/dataplane."
)

var caseGroups = [25]caseGroup{
	{"services", []string{"TestCases/1 services, lines", "TestCases/1 services, lans"}, []string{plans + "1, 2, 7 services, devices, roles"}, []string{packets + "10, 13 shares, 22 force_route, 23 deleted"}, ""},
	{"device and address of each", []string{"TestCases/2 device of a ppp line"}, []string{plans + "1, 2, 7 services, devices, roles"}, []string{packets + "10, 13 shares, 22 force_route, 23 deleted"}, ""},
	{"gateways: of a peer, of a route or lease, by hand", []string{"TestCases/3 gateway, ppp", "TestCases/3 gateway, by hand"}, []string{plans + "3 gateways"}, []string{"/test/integration.TestOwnLines/another lease", packets + "10, 13 shares, 22 force_route, 23 deleted"}, ""},
	{"network of a tunnel", []string{"TestCases/4 network of a tunnel"}, []string{plans + "4, 5 network of the tunnel, of the alias"}, []string{plane + "TestNetworks/behind the tunnel"}, ""},
	{"address of an alias", []string{"TestCases/5 address of an alias"}, []string{plans + "4, 5 network of the tunnel, of the alias"}, []string{packets + "5 alias, 17 groups"}, ""},
	{"marks of lines alone", []string{"TestCases/6 a number for lines only"}, []string{plans + "6 marks of lines alone"}, []string{plane + "TestForeignMarkBits"}, ""},
	{"device and role by name", []string{"TestCases/7 device and role"}, []string{plans + "1, 2, 7 services, devices, roles"}, nil, "a question to their object, no packet is different"},
	{"monitor and mail", []string{"TestCases/8 mail", "TestProbes"}, nil, []string{"/test/integration.TestRow19", "/test/integration.TestProbeMethods"}, "neither is in the plan"},
	{"print only, forwarding off first", []string{"TestTaken"}, []string{plans + "9 forwarding is never off, nothing flushed"}, []string{plane + "TestSwapLosesNothing"}, ""},
	{"balanced by default", []string{"TestCases/10 balanced", "TestCases/10 balanced, unsaid"}, []string{plans + "10, 13 three lines alike"}, []string{packets + "10, 13 shares, 22 force_route, 23 deleted"}, ""},
	{"networks of the lans, for each line", []string{"TestCases/11 a table for each line"}, []string{plans + "11 networks of the lans for every line"}, []string{packets + "24 add_route, 11 networks of the lans"}, ""},
	{"rule files", []string{"TestCases/12 rule files", "TestTogether", "TestCommands", "TestPerl"}, []string{plans + "12 rule files"}, []string{packets + "18-20 forwards, 21 accept"}, ""},
	{"equal weights", []string{"TestCases/13 equal weights", "TestWeights"}, []string{plans + "10, 13 three lines alike"}, []string{packets + "10, 13 shares, 22 force_route, 23 deleted", "/test/integration.TestImported"}, ""},
	{"one line up", nil, []string{plans + "14 one line up"}, []string{packets + "14 one line"}, "which lines are up is no matter of a file"},
	{"MSS clamping", []string{"TestCases/15 MSS clamping"}, []string{plans + "15 MSS clamping"}, []string{plane + "TestSegmentsFit"}, ""},
	{"pings limited", []string{"TestCases/16 pings limited"}, []string{plans + "16 pings limited"}, []string{plane + "TestFirewall"}, ""},
	{"who may talk to whom", []string{"TestCases/17 forwarding", "TestCases/17 forwarding, default", "TestCases/17 forwarding, some lines"}, []string{plans + "17 who may talk"}, []string{packets + "5 alias, 17 groups", plane + "TestGroups"}, ""},
	{"a port forwarded", []string{"TestCases/18 a port forwarded"}, []string{plans + "18 a port forwarded"}, []string{packets + "18-20 forwards, 21 accept", plane + "TestForwards"}, ""},
	{"to another port, of both protocols", []string{"TestCases/19 to another port, both"}, []string{plans + "19 to another, both"}, []string{packets + "18-20 forwards, 21 accept"}, ""},
	{"a forward in a user's file", []string{"TestCases/20 a user's forward"}, []string{plans + "20 a user's forward"}, []string{packets + "18-20 forwards, 21 accept"}, ""},
	{"an accept in a user's file", []string{"TestCases/21 a user's accept"}, []string{plans + "21 a user's accept", plans + "21 none by itself"}, []string{packets + "18-20 forwards, 21 accept", packets + "holes and forged sources"}, ""},
	{"force_route", []string{"TestCases/22 force_route", "TestCases/22 force_route, short", "TestCases/22 force_route, as a rule"}, []string{plans + "22 force_route", plans + "22 though it is down"}, []string{packets + "10, 13 shares, 22 force_route, 23 deleted"}, ""},
	{"force_route, deleted", []string{"TestCases/23 deleted again"}, []string{plans + "23 deleted again"}, []string{packets + "10, 13 shares, 22 force_route, 23 deleted"}, ""},
	{"add_route", []string{"TestCases/24 add_route"}, []string{plans + "24 add_route"}, []string{packets + "24 add_route, 11 networks of the lans"}, ""},
	{"failover mode", []string{"TestCases/25 failover", "TestCases/25 failover, odd", "TestPreference"}, []string{plans + "25 failover", plans + "25 failover, its turn"}, []string{"/test/integration.TestImported"}, ""},
}

// TestLedger: each group has tests of each kind, or says why not, and each test
// that is named exists.
func TestLedger(t *testing.T) {
	tests := ledger.Tests{}
	for i, g := range caseGroups {
		whole := true
		for _, kind := range [][]string{g.imported, g.plan, g.truth} {
			whole = whole && len(kind) > 0
			for _, name := range kind {
				if err := tests.Has("../../..", name); err != nil {
					t.Errorf("%d, %s: %s: %v", i+1, g.what, name, err)
				}
			}
		}
		if g.what == "" || whole != (g.missing == "") {
			t.Errorf("%d, %s: all kinds %t, missing %q", i+1, g.what, whole, g.missing)
		}
	}
	if tests.Has("../../..", plans+"26 nothing") == nil || tests.Has("../../..", packets+"26 nothing") == nil {
		t.Error("a case that is not there is found")
	}
}
