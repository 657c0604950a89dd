package main

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"harouter/ha/config"
	"harouter/ha/survey"
	"harouter/test/netlab"
)

var (
	lan0  = survey.Device{Name: "lan0", Use: survey.Lan, Why: "private", Address: netip.MustParsePrefix("192.168.77.2/24"), Further: []netip.Addr{netip.MustParseAddr("169.254.9.1")}}
	wan1  = survey.Device{Name: "wan1", Use: survey.Wan, Why: "route", Address: netip.MustParsePrefix("203.0.113.9/25"), Gateway: netip.MustParseAddr("203.0.113.1")}
	wan2  = survey.Device{Name: "wan2", Use: survey.Wan, Why: "lease", Address: netip.MustParsePrefix("10.1.0.2/24"), Gateway: netip.MustParseAddr("10.1.0.1"), Dynamic: true}
	cab   = survey.Device{Name: "cab", Use: survey.Cable, Why: "two machines", Address: netip.MustParsePrefix("10.99.0.1/30")}
	sync0 = survey.Device{Name: "sync0", Use: survey.Wan, Why: "public", Address: netip.MustParsePrefix("192.0.2.1/24")}
	eth9  = survey.Device{Name: "eth9", Why: "has no IPv4 address"}
)

// TestMachine: what is decided from what is seen and said.
func TestMachine(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	all := []survey.Device{eth9, lan0, wan1, wan2}
	lan1 := config.MachineLan{Name: "lan1", Device: "lan0", Own: lan0.Address}
	isp1 := config.MachineUplink{Name: "isp1", Device: "wan1", Own: wan1.Address, Gateway: wan1.Gateway}
	isp2 := config.MachineUplink{Name: "isp2", Device: "wan2", Own: wan2.Address}
	machine := func(address string, lans []config.MachineLan, uplinks []config.MachineUplink) config.Machine {
		return config.Machine{Cluster: "home", Node: "r1", Address: addr(address), Priority: 200, Lans: lans, Uplinks: uplinks}
	}
	type lans = []config.MachineLan
	type uplinks = []config.MachineUplink
	for name, test := range map[string]struct {
		args    initArgs
		devices []survey.Device
		want    config.Machine
		notes   []string
	}{
		"as it is":               {initArgs{}, all, machine("192.168.77.2", lans{lan1}, uplinks{isp1, isp2}), nil},
		"an address of the node": {initArgs{address: "169.254.9.1"}, all, machine("169.254.9.1", lans{lan1}, uplinks{isp1, isp2}), nil},
		"an address for later": {initArgs{address: "192.0.2.1"}, all, machine("192.0.2.1", lans{lan1}, uplinks{isp1, isp2}),
			[]string{"no device has the address 192.0.2.1 now; it must be there when harouter runs"}},
		"a direct cable":                 {initArgs{}, []survey.Device{cab, lan0, wan1}, machine("10.99.0.1", lans{lan1}, uplinks{isp1}), nil},
		"a cable that looks like a line": {initArgs{address: "192.0.2.1"}, []survey.Device{lan0, sync0, wan1}, machine("192.0.2.1", lans{lan1}, uplinks{isp1}), nil},
		"one lan for all":                {initArgs{address: "192.168.77.2"}, []survey.Device{lan0, wan1}, machine("192.168.77.2", lans{lan1}, uplinks{isp1}), nil},
		"lans by hand": {initArgs{lans: []string{"office=eth9,192.168.1.1/24", "lab=nope,10.9.0.1/16"}}, all, machine("203.0.113.9", lans{
			{Name: "office", Device: "eth9", Virtual: prefix("192.168.1.1/24")}, {Name: "lab", Device: "nope", Virtual: prefix("10.9.0.1/16")}}, uplinks{isp1, isp2}),
			[]string{"this machine has no device nope now; the daemon will treat it as a link that is down"}},
		"uplinks by hand": {initArgs{uplinks: []string{"cable=wan1,weight=2,address=203.0.113.10/25", "dsl=wan2,gateway=10.1.0.3", "third=eth9"}}, all,
			machine("192.168.77.2", lans{lan1}, uplinks{
				{Name: "cable", Device: "wan1", Own: wan1.Address, Gateway: wan1.Gateway, Virtual: prefix("203.0.113.10/25"), Weight: 2},
				{Name: "dsl", Device: "wan2", Own: wan2.Address, Gateway: addr("10.1.0.3")}, {Name: "third", Device: "eth9"}}), nil},
		"a leased gateway is not written down": {initArgs{uplinks: []string{"dsl=wan2"}}, all, machine("192.168.77.2", lans{lan1}, uplinks{{Name: "dsl", Device: "wan2", Own: wan2.Address}}), nil},
		"what is an uplink is no lan":          {initArgs{uplinks: []string{"odd=lan0"}}, []survey.Device{lan0}, machine("192.168.77.2", nil, uplinks{{Name: "odd", Device: "lan0", Own: lan0.Address}}), nil},
		"only lans":                            {initArgs{lans: []string{"a=lan0"}}, []survey.Device{lan0}, machine("192.168.77.2", lans{{Name: "a", Device: "lan0", Own: lan0.Address}}, nil), nil},
		"own is to become virtual":             {initArgs{lans: []string{"a=lan0,192.168.77.2/24"}}, []survey.Device{lan0, wan1}, machine("203.0.113.9", lans{{Name: "a", Device: "lan0", Own: lan0.Address, Virtual: prefix("192.168.77.2/24")}}, uplinks{isp1}), nil},
	} {
		test.args.cluster, test.args.priority = "home", 200
		got, notes, err := test.args.machine("r1", test.devices)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})) + cmp.Diff(test.notes, notes); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestMachineRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		args    initArgs
		devices []survey.Device
		want    string
	}{
		"nothing there":     {initArgs{}, nil, "this machine shows no lan (a private address, no default route): say which it is with --lan NAME=DEVICE[,ADDRESS/LENGTH], or name the uplinks with --uplink if there is to be no lan; and no uplink (a default route, or a public address): say which it is with --uplink NAME=DEVICE[,gateway=IP][,address=ADDRESS/LENGTH][,weight=N], or name the lans with --lan if there is to be no uplink. Its devices: none"},
		"no uplink":         {initArgs{}, []survey.Device{lan0, eth9}, "this machine shows no uplink"},
		"no lan":            {initArgs{}, []survey.Device{wan1}, "this machine shows no lan (a private address, no default route): say which it is with --lan"},
		"no address":        {initArgs{lans: []string{"a=eth9"}, uplinks: []string{"b=eth8"}}, []survey.Device{eth9}, "give one with --address IP"},
		"a word":            {initArgs{address: "r1"}, []survey.Device{lan0, wan1}, `--address "r1" is no IP address; allowed: one such as 192.0.2.1`},
		"lan alone":         {initArgs{lans: []string{"lan0"}}, nil, `--lan "lan0" is not understood; allowed: NAME=DEVICE[,ADDRESS/LENGTH], such as office=lan0,192.168.77.1/24`},
		"lan, no length":    {initArgs{lans: []string{"a=lan0,192.168.1.1"}}, nil, `--lan "a=lan0,192.168.1.1" is not understood`},
		"lan, too much":     {initArgs{lans: []string{"a=lan0,192.168.1.1/24,x"}}, nil, "is not understood"},
		"uplink alone":      {initArgs{uplinks: []string{"=wan1"}}, nil, `--uplink "=wan1" is not understood; allowed: NAME=DEVICE[,gateway=IP]`},
		"uplink, key":       {initArgs{uplinks: []string{"a=wan1,wieght=1"}}, nil, "is not understood"},
		"uplink, twice":     {initArgs{uplinks: []string{"a=wan1,weight=1,weight=2"}}, nil, "is not understood"},
		"uplink, weight":    {initArgs{uplinks: []string{"a=wan1,weight=0"}}, nil, `--uplink "a=wan1,weight=0": weight 0 is out of range; allowed: 1 to 255`},
		"uplink, gateway":   {initArgs{uplinks: []string{"a=wan1,gateway=x"}}, nil, "is not understood"},
		"two wrong at once": {initArgs{lans: []string{"x"}, uplinks: []string{"y"}}, nil, `--uplink "y" is not understood`},
	} {
		if _, _, err := test.args.machine("r1", test.devices); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// initIn runs harouter init in a directory.
func initIn(t *testing.T, dir string, args ...string) (out string, err error) {
	t.Helper()
	root := newRoot()
	var b bytes.Buffer
	root.SetOut(&b)
	root.SetArgs(append([]string{"init", "--config", filepath.Join(dir, "harouter.yaml"), "--node", "r1"}, args...))
	err = root.Execute()
	return b.String(), err
}

// names are what a directory holds, temporary files too.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func isWrongInput(err error) bool {
	var w wrongInput
	return errors.As(err, &w)
}

// TestInit: on a real machine, from nothing to a file that check accepts.
func TestInit(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, `set -e
cable() { ip link add $1 type veth peer name p-$1; ip link set $1 up; ip link set p-$1 up; }
cable lan0; ip addr add 192.168.77.2/24 dev lan0
cable wan1; ip addr add 203.0.113.9/25 dev wan1`)
	base := t.TempDir()
	dir := filepath.Join(base, "etc", "harouter")
	if out, err := initIn(t, dir, "--lan", "a=lan0", "--uplink", "b=wan1,address=192.168.77.9/24"); !isWrongInput(err) || out != "" ||
		!strings.Contains(err.Error(), "write a starter file for this machine: ") || len(names(t, base)) != 0 {
		t.Errorf("networks that overlap: %v\n%s", err, out)
	}
	netlab.Sh(t, "ip route add default via 203.0.113.1")

	out, err := initIn(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"lan0 192.168.77.2/24 lan lan1 has a private address and no default route\n",
		"wan1 203.0.113.9/25 uplink isp1 has a default route via 203.0.113.1\n",
		"cluster home, node r1 at 192.168.77.2, priority 200\n",
		"lan lan1 on lan0, virtual address 192.168.77.254/24 (a suggestion: the file says more)\n",
		"uplink isp1 on wan1, gateway 203.0.113.1, weight 1\n",
		"harouter check --config " + filepath.Join(dir, "harouter.yaml") + " --node r1\n",
		"harouter join 192.168.77.2:7947 --token TICKET\n",
	} {
		if narrow := regexp.MustCompile(" +").ReplaceAllString(out, " "); !strings.Contains(narrow, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if got := names(t, dir); !cmp.Equal(got, []string{"cluster.key", "harouter.yaml"}) {
		t.Error(got)
	}
	path, keyPath := filepath.Join(dir, "harouter.yaml"), filepath.Join(dir, "cluster.key")
	if _, ps := config.Load(path); ps.Err() != nil {
		t.Error(ps)
	}
	key, err := config.LoadKey(keyPath) // refuses a mode that lets others read
	if err != nil || strings.Contains(out, string(bytes.TrimSpace(key.Encode()))) {
		t.Error("the key is not there, or shown:", err)
	}
	root := newRoot()
	root.SetArgs([]string{"check", path, "--node", "r1"})
	if err := root.Execute(); err != nil {
		t.Error(err)
	}

	// Once more: refused; a file is replaced with force, a key only if said so.
	before, _ := os.ReadFile(path)
	if _, err := initIn(t, dir, "--cluster", "other"); err == nil || isWrongInput(err) || !strings.Contains(err.Error(), "is there already, so nothing was written; --force") {
		t.Error(err)
	}
	if _, err := initIn(t, dir, "--cluster", "other", "--new-key"); err == nil || isWrongInput(err) {
		t.Error("a new key without force:", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the refused init wrote")
	}
	out, err = initIn(t, dir, "--cluster", "other", "--force")
	again, _ := config.LoadKey(keyPath)
	if c, _ := config.Load(path); err != nil || c.Cluster != "other" || again.Primary != key.Primary || !strings.Contains(out, "Kept:    "+keyPath) {
		t.Errorf("force: %v\n%s", err, out)
	}
	_, err = initIn(t, dir, "--force", "--new-key")
	if again, _ := config.LoadKey(keyPath); err != nil || again.Primary == key.Primary {
		t.Error("a new key: ", err)
	}
	// A key that nobody can use is not kept in silence.
	if err := os.WriteFile(keyPath, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := initIn(t, dir, "--force"); err == nil || !strings.Contains(err.Error(), "keep the key that is there: read key file ") {
		t.Error(err)
	}
	if got := names(t, dir); !cmp.Equal(got, []string{"cluster.key", "harouter.yaml"}) {
		t.Error("left behind:", got)
	}

	for name, args := range map[string][]string{
		"priority 0":   {"--priority", "0"},
		"priority 255": {"--priority", "255"},
		"priority 300": {"--priority", "300"},
		"an argument":  {"now"},
		"one path":     {"--config", "x/harouter.yaml", "--key-file", "./x/harouter.yaml"},
		"a bad name":   {"--cluster", "My Home"},
		"a bad device": {"--lan", "a=eth/0,10.0.0.1/24"},
		"one link":     {"--address", "fe80::1"},
	} {
		fresh := filepath.Join(t.TempDir(), "x")
		if _, err := initIn(t, fresh, args...); !isWrongInput(err) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(fresh); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	netlab.Sh(t, "ip link del wan1")
	if _, err := initIn(t, filepath.Join(base, "y")); !isWrongInput(err) || !strings.Contains(err.Error(), "shows no uplink") {
		t.Error(err)
	}
}

// TestPlaceOnFullDisk: what was there stays, and nothing is left over.
func TestPlaceOnFullDisk(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	dir := t.TempDir()
	netlab.Sh(t, "mount -t tmpfs -o size=64k none "+dir)
	t.Cleanup(func() { netlab.Sh(t, "umount "+dir) })
	path, keyPath := filepath.Join(dir, "harouter.yaml"), filepath.Join(dir, "sub", "cluster.key")
	if err := os.WriteFile(path, []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := place(document{path, []byte("new\n"), 0o644}, document{keyPath, make([]byte, 100<<10), 0o600})
	if err == nil || !strings.Contains(err.Error(), "write "+keyPath) || !strings.Contains(err.Error(), "no space left on device") {
		t.Error(err)
	}
	if was, _ := os.ReadFile(path); string(was) != "old\n" || len(names(t, dir)) != 1 {
		t.Errorf("%q, %v", was, names(t, dir))
	}
}

// TestPlaceUndoes: the second file cannot be put in place, so the first is not
// either.
func TestPlaceUndoes(t *testing.T) {
	for name, old := range map[string]string{"new": "", "replaced": "old\n"} {
		dir := t.TempDir()
		first, second := filepath.Join(dir, "a", "first"), filepath.Join(dir, "second")
		if old != "" {
			if err := place(document{first, []byte(old), 0o600}); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(second, 0o755); err != nil {
			t.Fatal(err)
		}
		err := place(document{first, []byte("new\n"), 0o600}, document{second, []byte("x"), 0o600})
		if err == nil || !strings.Contains(err.Error(), second) {
			t.Errorf("%s: %v", name, err)
		}
		if was, _ := os.ReadFile(first); string(was) != old {
			t.Errorf("%s: %q stands there", name, was)
		}
		want := []string{"second"}
		if old != "" {
			want = []string{"a", "second"}
		}
		if got := names(t, dir); !cmp.Equal(got, want) {
			t.Errorf("%s: left behind: %v", name, got)
		}
	}
}

func TestPlaceMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, mode := range []os.FileMode{0o600, 0o644} {
		if err := place(document{path, []byte("x"), mode}); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Error(info, err)
		}
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Error("left behind:", got)
	}
}
