package vrrp

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"harouter/test/ledger"
)

// item is one clause of the checklist (research/ha-peers.md §5, from RFC 9568
// with its errata, RFC 3768 and what others got wrong), and the tests that hold
// it: what it lets happen and what it does not. A test is PACKAGE.NAME, with
// the name of its case behind a slash; the package is a folder below this one,
// none for this one, or from the top with a slash before it.
type item struct {
	id, clause       string
	accepts, rejects []string
	missing          string // why there is no test, or none of one kind
}

var clauses = []item{
	// Receive.
	{"R1", "TTL or hop limit 255 (RFC 9568 §5.1.1.3, §5.1.2.3)",
		[]string{"wire.TestJudge/good", "wire.TestIPv6", "wire.TestHopLimit/there"},
		[]string{"wire.TestJudge/TTL 254", "wire.TestIPv6", "wire.TestDrops", "wire.TestHopLimit/not there"}, ""},
	{"R2", "another version than the configured one: dropped, with an alarm that names the key",
		[]string{"TestTerms/version 3", "TestTerms/version 2"},
		[]string{"TestTerms/version 2 for version 3", "TestTerms/version 3 for version 2", "wire.TestJudge/other version", "/ha.TestProtocolAlarms"}, ""},
	{"R3", "type 1 (§5.2.2)", []string{"TestGolden/v3 pseudo"}, []string{"TestParseRefuses/type 0", "TestParseRefuses/type 2"}, ""},
	{"R4", "length: 8+4n, 8+16n, version 2 8+4n+8; padding is no part of it, the IP length counts",
		[]string{"TestGolden/v3 pseudo", "TestGolden/v3 over IPv6", "TestGolden/v2", "TestLongestList", "TestParseTakes/bytes behind the message", "wire.TestJudge/bytes behind the packet"},
		[]string{"TestParseRefuses/one byte short of its list", "TestParseRefuses/v2 with half of it", "TestParseRefuses/second address is missing", "wire.TestJudge/the IP length cuts it"}, ""},
	{"R5", "checksum: version 2 plain with its 8 bytes, IPv6 with pseudo-header, IPv4 either, and which is told (§5.2.8)",
		[]string{"TestGolden/v3 pseudo", "TestGolden/v3 plain", "TestGolden/v3 over IPv6", "TestGolden/v2 with a password", "wire.TestJudge/plain checksum"},
		[]string{"TestParseRefuses/checksum 0", "TestParseRefuses/v2 with pseudo-header", "TestParseRefuses/IPv6 without pseudo-header", "TestParseRefuses/v2, the checksum leaves the password out"}, ""},
	{"R6", "the pseudo-header has the packet's own addresses, in unicast too",
		[]string{"TestGolden/v3 farewell, unicast, longest interval"},
		[]string{"TestParseRefuses/unicast, with the pseudo-header of the group", "TestParseRefuses/pseudo for another source"}, ""},
	{"R7", "another VRID is ignored, before anything else is looked at (§7.1)",
		[]string{"wire.TestJudge/good", "wire.TestVersion2", "/ha.TestVRIDOfLan/the lan's own"},
		[]string{"wire.TestJudge/another router", "wire.TestJudge/another router in the other version", "wire.TestVersion2", "/ha.TestVRIDOfLan/the cluster's there"}, ""},
	{"R8", "no address in it (erratum 8299)", []string{"TestGolden/v3 plain", "TestLongestList"}, []string{"TestParseRefuses/no address", "TestParseRefuses/no address, v2"}, ""},
	{"R9", "another list of addresses is no reason to drop",
		[]string{"TestTerms/version 3 with other addresses", "TestTerms/version 2 with other addresses"}, nil, "nothing is to be rejected"},
	{"R10", "another interval: version 3 learns it, version 2 drops (RFC 3768 §7.1)",
		[]string{"TestTerms/version 3 learns the interval", "TestClauses/S3"},
		[]string{"TestTerms/version 2 with another interval", "wire.TestJudge/version 2 wants another interval", "wire.TestVersion2"}, ""},
	{"R11", "interval 0 (erratum 8301), reserved bits are ignored (§5.2.6)",
		[]string{"TestParseTakes/shortest interval", "TestParseTakes/reserved bits are ignored"},
		[]string{"TestParseRefuses/interval 0", "TestParseRefuses/interval 0 beside reserved bits", "TestParseRefuses/interval 0, v2"}, ""},
	{"R12", "the first IPv6 address is link-local (erratum 8300)",
		[]string{"TestGolden/v3 over IPv6"}, []string{"TestParseRefuses/IPv6, first address is global", "TestAppendRefuses/first IPv6 address is global"}, ""},
	{"R13", "the list is of the packet's family",
		[]string{"TestGolden/v3 over IPv6", "wire.TestIPv6"}, []string{"TestParseRefuses/mixed families", "TestParseRefuses/v2 over IPv6", "TestAppendRefuses/other family in the list"}, ""},
	{"R14", "own packets that come back are nobody's; a node that has our address on a lan is an alarm (its packets there are no more than that to the kernel)",
		[]string{"wire.TestOwnPacketsAreIgnored", "/ha.TestSameAddress/another one"}, []string{"wire.TestOwnPacketsAreIgnored", "wire.TestIPv6", "/ha.TestSameAddress/on one lan"}, ""},
	{"R15", "an owner obeys and answers like any other (erratum 8298); on the machine only, 255 is never ours", []string{"TestClauses/R15"}, []string{"TestClauses/R15"}, ""},
	{"R16", "version 2, authentication: none where no password is set, else that one and no other (RFC 2338 §5.3.6)",
		[]string{"TestTerms/version 2", "TestTerms/the password", "TestGolden/v2 with a password"},
		[]string{"TestTerms/a password where none is set", "TestTerms/another password", "TestTerms/no password where one is set", "TestParseRefuses/v2 with a digest", "wire.TestVersion2"}, ""},
	{"R17", "with unicast_only no multicast is taken; a sender must be known",
		[]string{"wire.TestUnicastOnly", "/ha.TestVRIDOfLan/unicast"}, []string{"wire.TestUnicastOnly", "/ha.TestVRIDOfLan/unicast with a lan's"}, ""},

	// State machine.
	{"S1", "start: an owner is master at once, others are backups with the timer of their own interval (§6.4.1)", []string{"TestClauses/S1"}, []string{"TestClauses/S1"}, ""},
	{"S2", "backup, priority 0: Skew of the learned interval, not at once (§6.4.2)", []string{"TestClauses/S2", "TestClauses/version2"}, []string{"TestClauses/S2"}, ""},
	{"S3", "backup, priority not below ours or no preempt: interval, Skew and timer of the advert", []string{"TestClauses/S3"}, []string{"TestClauses/S3"}, ""},
	{"S4", "backup, lower priority with preempt: discarded, the timer runs on; one of our nodes is asked first", []string{"TestClauses/S4", "TestMachineScenarios/preempt"}, []string{"TestClauses/S4", "TestMachineScenarios/preempt"}, ""},
	{"S5", "backup, equal priority: obeyed whatever the addresses", []string{"TestClauses/S5"}, []string{"TestClauses/S5"}, ""},
	{"S6", "master, priority 0: an advert (§6.4.3)", []string{"TestClauses/S6"}, []string{"TestClauses/S6"}, ""},
	{"S7", "master, higher priority, or equal and the greater address: backup, preempt or not", []string{"TestClauses/S7"}, []string{"TestClauses/S7"}, ""},
	{"S8", "master, a lesser one: an advert at once and announcements, without a storm", []string{"TestClauses/S8"}, []string{"TestClauses/S8", "TestNoStorm"}, ""},
	{"S9", "ties by the unsigned number of the address", []string{"TestClauses/S9"}, []string{"TestClauses/S9"}, ""},
	{"S10", "a master that stops says priority 0", []string{"TestClauses/S10", "wire.TestFrames"}, []string{"TestClauses/S10"}, ""},
	{"S11", "tracking stays within 1 and 254 and never touches an owner; on the machine only", []string{"TestClauses/S11"}, []string{"TestClauses/S11"}, ""},
	{"S12", "another priority: a master tells it at once, a backup's Skew follows", []string{"TestClauses/S12", "wire.TestAdvertiseAgain"}, []string{"TestClauses/S12"}, ""},
	{"S13", "a timer that was armed again does not fire at its former time", []string{"TestClauses/S13"}, []string{"TestClauses/S13"}, ""},
	{"S14", "who slept listens before it goes on", []string{"TestClauses/S14", "TestMachineScenarios/overslept"}, []string{"TestClauses/S14", "wire.TestLease"}, ""},
	{"S15", "an interval of 10 ms: no drift, no flapping", []string{"TestClauses/S15", "wire.TestCadence", "wire.TestSchedule/being late does not add up"}, []string{"TestClauses/S15", "wire.TestSchedule/late by an interval or more: no catching up"}, ""},
	{"S16", "a full queue or a path that fails ends nothing", []string{"wire.TestFlood", "wire.TestFailingPath"}, []string{"wire.TestGate", "vip.TestDeviceThatTakesNothing"}, ""},

	// Transmit and data plane.
	{"T1", "TTL 255, no loop, to the group, from the device's own address, which may change", []string{"wire.TestEachPacketOnce", "wire.TestIPv6", "wire.TestSourceFollows"}, []string{"wire.TestSource", "wire.TestNoLoop"}, ""},
	{"T2", "from the virtual MAC where there is one, but for the farewell: it is said when that MAC is silent, and may be another node's (§7.3)",
		[]string{"wire.TestVirtualMAC", "vip.TestVirtualMAC", "/test/integration.TestVirtualMAC"}, []string{"wire.TestVirtualMAC", "/test/integration.TestVirtualMAC"}, ""},
	{"T3", "version 2: 8 bytes of authentication within the checksum, whole seconds; version 3: 12 bits of centiseconds", []string{"TestGolden/v2", "TestGolden/v3 farewell, unicast, longest interval"}, []string{"TestAppendRefuses/v2 below a second", "TestAppendRefuses/v2 too long", "TestAppendRefuses/interval too long", "TestAppendRefuses/interval between two steps"}, ""},
	{"T4", "gratuitous ARP for each address, in both forms (errata 7947, 7949)", []string{"vip.TestGoldenFrame", "vip.TestFirstBurst", "vip.TestLaterBursts"}, []string{"vip.TestFencedIsNotAnnounced", "vip.TestNoARPDevice"}, ""},
	{"T5", "unsolicited neighbour advertisement: R=1 S=0 O=1, target link-layer address, to all nodes; no DAD on the address", []string{"vip.TestGoldenNeighbour", "vip.TestNeighbourBelieves", "vip.TestSixAddAndRemove"}, []string{"vip.TestNeighbourBelieves", "vip.TestSixFound"}, ""},
	{"T6", "a backup answers for nothing", []string{"vip.TestAddAndRemove"}, []string{"vip.TestAddAndRemove", "vip.TestSweep", "/test/integration.TestWarmBackup"}, ""},
	{"T7", "accept mode: on by default, else what is sent to a virtual address is dropped and ARP still answered", []string{"/balancer/dataplane.TestNotAccepted", "/balancer/dataplane.TestVirtualAddressIsSilent"}, []string{"/balancer/dataplane.TestNotAccepted"}, ""},
	{"T8", "a virtual address brings no second connected route", []string{"vip.TestRoutes", "vip.TestSixAddAndRemove"}, []string{"vip.TestAddAndRemove", "vip.TestVirtualMAC6"}, ""},
	{"T9", "IPv4 and IPv6 under one VRID speak each for itself and move together", []string{"wire.TestIPv6", "wire.TestUnicast6"}, []string{"TestParseRefuses/mixed families"}, ""},
	{"T10", "the virtual MAC makes no IPv6 address", []string{"vip.TestVirtualMAC"}, []string{"vip.TestVirtualMAC"}, ""},
	{"T11", "the group is joined on the right device, also one that comes back; unicast where a network loses it", []string{"wire.TestDeviceComesBack", "wire.TestUnicastOnly"}, []string{"wire.TestEachPacketOnce"}, ""},
}

// TestLedger: every clause is there once, and each test that it names exists.
func TestLedger(t *testing.T) {
	var want, have []string
	for _, part := range []struct {
		letter string
		n      int
	}{{"R", 17}, {"S", 16}, {"T", 11}} {
		for i := range part.n {
			want = append(want, part.letter+strconv.Itoa(i+1))
		}
	}
	tests := ledger.Tests{}
	for _, it := range clauses {
		have = append(have, it.id)
		if it.clause == "" || (len(it.accepts) == 0 || len(it.rejects) == 0) != (it.missing != "") {
			t.Errorf("%s: %d tests accept, %d reject, missing %q", it.id, len(it.accepts), len(it.rejects), it.missing)
		}
		for _, name := range slices.Concat(it.accepts, it.rejects) {
			if err := has(tests, name); err != nil {
				t.Errorf("%s: %s: %v", it.id, name, err)
			}
		}
	}
	if !slices.Equal(want, have) {
		t.Errorf("clauses are %v, want %v", have, want)
	}
}

// TestLedgerFinds: what would make the ledger a lie is found.
func TestLedgerFinds(t *testing.T) {
	tests := ledger.Tests{}
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"TestLedger", true}, {"TestGolden/v2", true}, {"wire.TestJudge/good", true}, {"/ha.TestCrash", true}, {"TestClauses/S1", true},
		{"TestNothing", false}, {"TestLedger/no case", false}, {"wire.TestJudge/no case", false}, {"nowhere.TestJudge", false}, {"wire.TestLedger", false},
		{"TestClauses/S99", false}, {"TestMachineScenarios/nothing", false},
	} {
		if err := has(tests, c.name); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// has is an error unless the test is there; some have files as their cases.
func has(tests ledger.Tests, name string) error {
	folder, function, sub := ledger.Split("..", name)
	files := sub != "" && (function == "TestClauses" || function == "TestMachineScenarios")
	if files {
		name = strings.TrimSuffix(name, "/"+sub)
	}
	if err := tests.Has("..", name); err != nil || !files {
		return err
	}
	if function == "TestMachineScenarios" {
		_, err := os.Stat(filepath.Join(folder, "testdata", "machine", sub+".txt"))
		return err
	}
	text, err := os.ReadFile(filepath.Join(folder, "testdata", "clauses", sub+".txt"))
	if err != nil {
		return err
	}
	for _, way := range []string{"== accepts: ", "== rejects: "} {
		if !strings.Contains(string(text), way) {
			return fmt.Errorf("nothing in it begins with %q", way)
		}
	}
	return nil
}
