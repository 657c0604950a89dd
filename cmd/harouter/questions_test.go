package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"harouter/ha/config"
	"harouter/ha/survey"
	"harouter/test/netlab"
)

// TestQuestions: what is asked, and what the answers make of it.
func TestQuestions(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	eth8 := survey.Device{Name: "eth8", Why: "has no IPv4 address"}
	lan := func(v string) []config.MachineLan {
		return []config.MachineLan{{Name: "lan1", Device: "lan0", Own: lan0.Address, Virtual: prefix(v)}}
	}
	isp1 := config.MachineUplink{Name: "isp1", Device: "wan1", Own: wan1.Address, Gateway: wan1.Gateway}
	const virtual = "Virtual address on lan0, the gateway of its hosts and no router's own [192.168.77.254/24]: "
	const address = "Address where other routers will reach this one, best on a direct cable [192.168.77.2]: "
	for name, test := range map[string]struct {
		args    initArgs
		devices []survey.Device
		typed   string
		want    config.Machine
		asked   []string
	}{
		"all as proposed": {initArgs{}, []survey.Device{lan0, wan1}, "\n\n\n", config.Machine{
			Address: addr("192.168.77.2"), Lans: lan("192.168.77.254/24"), Uplinks: []config.MachineUplink{isp1}}, []string{virtual, "a free one that is yours there", address}},
		"wrong answers": {initArgs{}, []survey.Device{lan0, wan1}, "here\n192.168.77.2\n192.168.77.1\n203.0.113.10\nr1\n192.0.2.1\n", config.Machine{
			Address: addr("192.0.2.1"), Lans: lan("192.168.77.1/24"), Uplinks: []config.MachineUplink{{Name: "isp1", Device: "wan1", Own: wan1.Address, Gateway: wan1.Gateway, Virtual: prefix("203.0.113.10/25")}}},
			[]string{`"here" is no address with a length; allowed: one such as 192.168.77.1/24`, "192.168.77.2 is this router's own address now", `"r1" is no IP address; allowed: one such as 192.0.2.1`}},
		"shares of two lines, one of them lent": {initArgs{address: "192.0.2.1"}, []survey.Device{lan0, wan1, wan2}, "\n\n0\n3\n\n", config.Machine{
			Address: addr("192.0.2.1"), Lans: lan("192.168.77.254/24"), Uplinks: []config.MachineUplink{
				{Name: "isp1", Device: "wan1", Own: wan1.Address, Gateway: wan1.Gateway, Weight: 3}, {Name: "isp2", Device: "wan2", Own: wan2.Address, Weight: 1}}},
			[]string{`"0" is no weight; allowed: 1 to 255`, "Share of isp2 on wan2: twice the weight, twice the connections [1]: "}},
		"devices without addresses": {initArgs{}, []survey.Device{eth8, eth9}, "eth7\neth8\neth9\n203.0.113.1\n192.168.1.1/24\n192.0.2.1\n", config.Machine{
			Address: addr("192.0.2.1"), Lans: []config.MachineLan{{Name: "lan1", Device: "eth8", Virtual: prefix("192.168.1.1/24")}},
			Uplinks: []config.MachineUplink{{Name: "isp1", Device: "eth9", Gateway: addr("203.0.113.1")}}},
			[]string{"Which one leads to the hosts? (eth8, eth9; -: none) [-]: ", `"eth7" is none of them; allowed: eth8, eth9, or -`, "No device looks like an ISP's line. Which one is? (eth9; -: none) [-]: "}},
		"no line at all": {initArgs{}, []survey.Device{lan0, eth9}, "\n\n\n", config.Machine{Address: addr("192.168.77.2"), Lans: lan("192.168.77.254/24")}, []string{virtual, address}},
		"said with flags": {initArgs{address: "192.0.2.1", lans: []string{"a=lan0,192.168.77.1/24"}, uplinks: []string{"b=wan1,address=203.0.113.10/25"}}, []survey.Device{lan0, wan1}, "", config.Machine{
			Address: addr("192.0.2.1"), Lans: []config.MachineLan{{Name: "a", Device: "lan0", Own: lan0.Address, Virtual: prefix("192.168.77.1/24")}},
			Uplinks: []config.MachineUplink{{Name: "b", Device: "wan1", Own: wan1.Address, Gateway: wan1.Gateway, Virtual: prefix("203.0.113.10/25")}}}, nil},
	} {
		var shown bytes.Buffer
		in := bufio.NewReader(strings.NewReader(test.typed))
		test.args.person = &questions{in, &shown}
		got, _, err := test.args.machine("r1", test.devices)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, shown.String())
			continue
		}
		test.want.Node = "r1"
		if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		for _, want := range test.asked {
			if !strings.Contains(shown.String(), want) {
				t.Errorf("%s: no %q in\n%s", name, want, shown.String())
			}
		}
		if left, _ := io.ReadAll(in); len(left) > 0 {
			t.Errorf("%s: not asked for: %q", name, left)
		}
	}
}

// TestInitAsks: at a terminal of its own; who gives up finds nothing written.
func TestInitAsks(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, `set -e
cable() { ip link add $1 type veth peer name p-$1; ip link set $1 up; ip link set p-$1 up; }
cable lan0; ip addr add 192.168.77.2/24 dev lan0
cable wan1; ip addr add 203.0.113.9/25 dev wan1; ip route add default via 203.0.113.1`)
	const first = "[192.168.77.254/24]: "
	for name, test := range map[string]struct {
		typed []string // each after the prompt that it answers
		last  string
		wrote bool
	}{
		"answered":     {[]string{first, "192.168.77.1\n", "(-: none) [-]: ", "203.0.113.10\n", "[192.168.77.2]: ", "\n"}, "For a second router", true},
		"given up":     {[]string{first, "\x03"}, "init was interrupted; nothing is written", false},
		"goes away":    {[]string{first, "\n", "(-: none) [-]: ", "\x04"}, "init was interrupted; nothing is written", false},
		"asked not to": {nil, "For a second router", true},
	} {
		dir := t.TempDir()
		p := newTerm(t)
		args := []string{"init", "--node", "r1", "--config", filepath.Join(dir, "c.yaml")}
		if test.typed == nil {
			args = append(args, "--yes")
		}
		cmd := p.start(t, args...)
		for i := 0; i < len(test.typed); i += 2 {
			p.read(t, test.typed[i])
			p.write(t, test.typed[i+1])
		}
		p.read(t, test.last)
		if err := cmd.Wait(); (err == nil) != test.wrote {
			t.Errorf("%s: %v", name, err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "c.yaml"))
		if errors.Is(err, os.ErrNotExist) == test.wrote {
			t.Errorf("%s: %v", name, err)
		}
		if name == "answered" && (!strings.Contains(string(text), "virtual_addresses: [192.168.77.1/24]") || !strings.Contains(string(text), "virtual_addresses: [203.0.113.10/25]")) {
			t.Errorf("%s:\n%s", name, text)
		}
	}
}
