package config

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func router() Machine {
	return Machine{
		Cluster: "home", Node: "r1", Address: netip.MustParseAddr("192.168.77.2"),
		Lans: []MachineLan{{Name: "lan1", Device: "lan0", Own: prefix("192.168.77.2/24")}},
		Uplinks: []MachineUplink{
			{Name: "isp1", Device: "wan1", Own: prefix("203.0.113.9/29"), Gateway: netip.MustParseAddr("203.0.113.14")},
			{Name: "isp2", Device: "wan2"},
		},
	}
}

// TestStarter: the whole text, since people read it.
func TestStarter(t *testing.T) {
	text, err := Starter(router())
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/starter.golden"
	if *update {
		if err := os.WriteFile(golden, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(t, golden)), string(text)); diff != "" {
		t.Errorf("%s (go test -update rewrites it):\n%s", golden, diff)
	}
}

// TestStarterSays: what was seen and said stands in the file, and nothing else.
func TestStarterSays(t *testing.T) {
	m := router()
	m.Priority, m.Node, m.Cluster = 7, "2024", "null"
	m.Lans = append(m.Lans, MachineLan{Name: "guests", Device: "br0", Virtual: prefix("10.0.0.1/8")})
	m.Uplinks[1] = MachineUplink{Name: "isp2", Device: "wan2", Virtual: prefix("198.51.100.7/32"), Weight: 9}
	text, err := Starter(m)
	if err != nil {
		t.Fatal(err)
	}
	c, ps := Parse("x", text)
	want := defaults()
	want.Cluster, want.Hash = "null", c.Hash
	want.Nodes = []Node{{Name: "2024", Addresses: addrs("192.168.77.2"), Priority: 7}}
	want.Lans = []Lan{{Name: "lan1", Device: "lan0", Virtual: []netip.Prefix{prefix("192.168.77.254/24")}, VRID: 51},
		{Name: "guests", Device: "br0", Virtual: []netip.Prefix{prefix("10.0.0.1/8")}, VRID: 51}}
	want.Uplinks = []Uplink{defaultUplink(want.VRRP, 1), defaultUplink(want.VRRP, 2)}
	one, two := &want.Uplinks[0], &want.Uplinks[1]
	one.Name, one.Device, one.Gateway = "isp1", "wan1", Gateway{GatewayStatic, netip.MustParseAddr("203.0.113.14")}
	two.Name, two.Device, two.Virtual, two.Weight = "isp2", "wan2", []netip.Prefix{prefix("198.51.100.7/32")}, 9
	want.Policies = []Policy{defaultPolicy(DefaultPolicy)}
	if diff := cmp.Diff(want, c, byValue); diff != "" {
		t.Errorf("%s\n%v", diff, ps)
	}
	m.Address = netip.MustParseAddr("192.168.77.254")
	if other, err := Starter(m); err != nil || !strings.Contains(string(other), "[192.168.77.253/24]") {
		t.Errorf("the node's address was suggested: %v", err)
	}
	// What is commented out is good too, once it is filled in.
	open := strings.NewReplacer("# virtual_addresses", "virtual_addresses", "# probe", "probe", "[ADDRESS, ADDRESS]", "[198.51.100.1]", "ADDRESS/LENGTH", "198.51.100.7/32", "# vrrp", "vrrp").Replace(string(text))
	if c, ps := Parse("x", []byte(open)); c == nil || c.Uplinks[0].Virtual[0] != prefix("203.0.113.13/29") || len(c.Uplinks[1].Probe.Targets) != 1 || c.VRRP.ID != 52 {
		t.Errorf("%v\n%s", ps, open)
	}
	if added, err := AddNode(text, r9); err != nil {
		t.Error(err)
	} else if back, err := RemoveNode(added, "r9"); err != nil || string(back) != string(text) {
		t.Errorf("%v\n%s", err, back)
	}
}

func TestStarterSmall(t *testing.T) {
	for name, change := range map[string]func(*Machine){
		"no lan":      func(m *Machine) { m.Lans = nil },
		"no uplink":   func(m *Machine) { m.Uplinks = nil },
		"nothing":     func(m *Machine) { m.Uplinks, m.Lans = nil, nil },
		"local alone": func(m *Machine) { m.Address = netip.MustParseAddr("127.0.0.1") },
	} {
		m := router()
		change(&m)
		if _, err := Starter(m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStarterRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Machine)
		want   string
	}{
		"cluster":       {func(m *Machine) { m.Cluster = "My Home" }, `cluster: "My Home" cannot be a name; allowed: 1 to 32 characters`},
		"node":          {func(m *Machine) { m.Node = "a: {}\n#" }, `node: "a: {}\n#" cannot be a name`},
		"device":        {func(m *Machine) { m.Lans[0].Device = "eth/0" }, `lan lan1: "eth/0" cannot be the name of a device`},
		"two as one":    {func(m *Machine) { m.Uplinks[1].Name = "lan1" }, "uplinks: the name lan1 is that of a lan"},
		"one device":    {func(m *Machine) { m.Uplinks[1].Device = "lan0" }, "device lan0 carries lan1 on node r1 already"},
		"no address":    {func(m *Machine) { m.Address = netip.Addr{} }, "the node has no address"},
		"one link":      {func(m *Machine) { m.Address = netip.MustParseAddr("fe80::1") }, "fe80::1 is good on one link only"},
		"no own prefix": {func(m *Machine) { m.Lans[0].Own = netip.Prefix{} }, "lan lan1: no virtual address can be suggested on lan0 (own address: none); give one, such as 192.168.77.1/24"},
		"overlap": {func(m *Machine) {
			m.Lans[0].Virtual = prefix("203.0.113.100/24")
			m.Uplinks[0].Virtual = prefix("203.0.113.10/24")
		}, "overlaps"},
		"weight": {func(m *Machine) { m.Uplinks[0].Weight = 256 }, "weight: 256 is out of range"},
	} {
		m := router()
		test.change(&m)
		if text, err := Starter(m); text != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSuggest(t *testing.T) {
	for _, test := range []struct{ own, used, want string }{
		{"192.168.1.1/24", "192.168.1.9", "192.168.1.254/24"},
		{"192.168.1.254/24", "192.168.1.9", "192.168.1.253/24"},
		{"192.168.1.253/24", "192.168.1.254", "192.168.1.252/24"},
		{"10.0.0.1/30", "10.0.0.9", "10.0.0.2/30"},
		{"10.0.0.1/30", "10.0.0.2", ""},
		{"10.0.0.1/31", "10.0.0.9", ""},
		{"10.0.0.1/32", "10.0.0.9", ""},
		{"fd00::1/64", "10.0.0.9", ""},
	} {
		got := Suggest(prefix(test.own), netip.MustParseAddr(test.used))
		if test.want == "" != !got.IsValid() || test.want != "" && got != prefix(test.want) {
			t.Errorf("%s without %s: %s", test.own, test.used, got)
		}
	}
	if Suggest(netip.Prefix{}).IsValid() {
		t.Error("something of nothing")
	}
}
