package importer

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"harouter/ha/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// home is testdata/home on a machine like that of the original's tests.
func home(t *testing.T) Input {
	t.Helper()
	in := Input{
		Conf: File{Path: "balance.conf", Data: read(t, "testdata/home/balance.conf")}, Cluster: "home", Node: "r1",
		Devices: machine(),
		Resolve: func(name string) (netip.Addr, error) {
			if name == standard {
				return netip.MustParseAddr("198.51.100.94"), nil
			}
			return netip.Addr{}, fmt.Errorf("no such host %s", name)
		},
	}
	paths, err := filepath.Glob("testdata/home/balance/*/*")
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob("testdata/home/balance/lsm/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(paths, deeper...) {
		if info, err := os.Stat(p); err != nil || info.IsDir() {
			continue
		}
		rel, err := filepath.Rel("testdata/home", p)
		if err != nil {
			t.Fatal(err)
		}
		in.Beside = append(in.Beside, File{Name: rel[len("balance/"):], Path: rel, Data: read(t, p)})
	}
	return in
}

func machine() []Device {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	return []Device{
		{Name: "eth0", Address: p("191.3.88.152/27"), Gateway: a("191.3.88.129"), Dynamic: true},
		{Name: "ppp0", Address: p("11.120.199.108/32")},
		{Name: "eth1", Address: p("192.168.10.1/24")},
		{Name: "eth3", Address: p("192.168.12.1/24"), Labelled: map[string]netip.Prefix{"eth3:0": p("192.168.13.1/24")}},
		{Name: "eth4"},
		{Name: "eth5", Address: p("192.168.20.1/24")},
		{Name: "tun0", Address: p("10.8.0.1/24")},
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestX(t *testing.T) {
	text, ps := Import(home(t))
	fmt.Println(string(text))
	fmt.Println(ps.Error())
	text, _ = run(home(t), all)
	fmt.Println(string(text))
}

func all(string, []byte) (*config.Config, config.Problems) { return nil, nil }
