package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"harouter/ha"
	"harouter/ha/doctor"
	"harouter/test/netlab"
	"harouter/vrrp"
)

// TestTryKernel: the trial uses what is there, and the kernel of the tests has it.
func TestTryKernel(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	said := tryKernel(t.Context())
	for _, l := range said.Lacks {
		t.Errorf("%+v", l)
	}
	if said.Queue == "" {
		t.Error("nothing is said of how first packets wait")
	}
	for _, want := range []string{"ip rule | grep 7001", "ip route show table 7001 | grep unreachable", "ip link show trial-mac | grep 00:00:5e:00:01:33"} {
		if netlab.Sh(t, want) == "" {
			t.Errorf("the trial left no trace: %s", want)
		}
	}
	if s := netlab.Sh(t, "nft list tables"); s != "" {
		t.Errorf("tables are left: %s", s)
	}
}

func TestLackFinding(t *testing.T) {
	for name, test := range map[string]struct {
		lack lack
		macs bool
		want doctor.Level
	}{
		"needed":              {lack{"NFT_CT", "x", "", needed}, false, doctor.Fault},
		"useful":              {lack{"NFT_SOCKET", "x", "", useful}, true, doctor.Warning},
		"no virtual MACs":     {lack{"MACVLAN", "x", "no", neededMAC}, false, doctor.Warning},
		"with virtual MACs":   {lack{"MACVLAN", "x", "no", neededMAC}, true, doctor.Fault},
		"a right, not option": {lack{"VRRP sockets", "x", "EPERM", needed}, false, doctor.Fault},
	} {
		if got := test.lack.finding(test.macs); got.Level != test.want || got.Mend == "" || strings.Contains(got.Mend, "CONFIG_VRRP") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestOurs(t *testing.T) {
	a, b, six := netip.MustParseAddr("192.168.77.1"), netip.MustParseAddr("192.168.77.2"), netip.MustParseAddr("fd00:77::1")
	for name, test := range map[string]struct {
		advert, virtual []netip.Addr
		want            bool
	}{
		"equal":        {[]netip.Addr{a}, []netip.Addr{a}, true},
		"other order":  {[]netip.Addr{b, a}, []netip.Addr{a, b}, true},
		"one more":     {[]netip.Addr{a, b}, []netip.Addr{a}, false},
		"another":      {[]netip.Addr{b}, []netip.Addr{a}, false},
		"none at all":  {nil, []netip.Addr{a}, false},
		"both without": {nil, nil, true},
		"one family":   {[]netip.Addr{a}, []netip.Addr{six, a}, true},
	} {
		if got := ours(vrrp.Advert{Addresses: test.advert}, test.virtual, true); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestExamineFiles: each way in which file and key can be wrong, in one sentence.
func TestExamineFiles(t *testing.T) {
	good := "cluster: home\nnodes: {r1: {address: 192.0.2.1}}\nlans: [{name: a, device: lan0, virtual_addresses: [192.168.77.1/24]}]\n"
	key := strings.Repeat("Q", 42) + "E=\n"
	for name, test := range map[string]struct {
		file, key, node string
		mode            os.FileMode
		want            []string
	}{
		"fine":                 {good, key, "r1", 0o600, nil},
		"no file":              {"", key, "r1", 0o600, []string{"warning there is no configuration yet, so only the machine was looked at"}},
		"no key":               {good, "", "r1", 0o600, []string{"fault read key file"}},
		"a key for all":        {good, key, "r1", 0o644, []string{"fault read key file"}},
		"no key in it":         {good, "x\n", "r1", 0o600, []string{"fault read key file"}},
		"another host":         {good, key, "r9", 0o600, []string{"fault "}},
		"from a newer version": {good + "teleport: true\n", key, "r1", 0o600, []string{`fault the file: unknown key "teleport"`}},
		"one address twice":    {strings.Replace(good, "{r1: {address: 192.0.2.1}}", "{r1: {address: 192.0.2.1}, r2: {address: 192.0.2.1}}", 1), key, "r1", 0o600, []string{"fault "}},
	} {
		dir := t.TempDir()
		c := &common{config: filepath.Join(dir, "f.yaml"), keyFile: filepath.Join(dir, "k"), node: test.node}
		for path, text := range map[string]string{c.config: test.file, c.keyFile: test.key} {
			if text == "" {
				continue
			}
			if err := os.WriteFile(path, []byte(text), test.mode); err != nil {
				t.Fatal(err)
			}
		}
		_, found := examineFiles(c)
		var got []string
		for i, f := range found {
			said := string(f.Level) + " " + f.Text
			if i < len(test.want) && strings.HasPrefix(said, test.want[i]) {
				said = test.want[i]
			}
			got = append(got, said)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestExamineStatus(t *testing.T) {
	if f := examineStatus(ha.Status{}); len(f) != 1 || f[0].Level != doctor.Fault {
		t.Errorf("a daemon without an answer: %+v", f)
	}
	if f := examineStatus(ha.Status{Node: "r1"}); f != nil {
		t.Errorf("no alarms: %+v", f)
	}
}
