package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// machine makes a root out of paths and texts; a text "-> x" is a symbolic link.
func machine(t *testing.T, files map[string]string) Machine {
	t.Helper()
	m := Machine{Root: t.TempDir()}
	for path, text := range files {
		full := filepath.Join(m.Root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		err := os.WriteFile(full, []byte(text+"\n"), 0o644)
		if to, link := strings.CutPrefix(text, "-> "); link {
			_ = os.Remove(full)
			err = os.Symlink(to, full)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

var site = Site{Lans: map[string]string{"office": "lan0"}, Uplinks: map[string]string{"cable": "wan1"}, Six: []string{"wan1"}, Ports: []int{7946, 7947}}

func subjects(found []Finding) []string {
	var out []string
	for _, f := range found {
		if f.Text == "" || f.Mend == "" || f.Level == "" {
			out = append(out, "INCOMPLETE")
		}
		out = append(out, string(f.Level)+" "+f.Subject)
	}
	return out
}

func TestPrograms(t *testing.T) {
	drop := map[string]string{"/usr/lib/systemd/networkd.conf.d/10-harouter.conf": "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no"}
	device := merge(drop, map[string]string{"/proc/7/comm": "systemd-network", "/sys/class/net/lan0/ifindex": "3", "/etc/systemd/network/lan.network": "",
		"/run/systemd/netif/links/3": "# State\nADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/lan.network"})
	for name, test := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"none":                               {map[string]string{"/proc/1/comm": "init"}, nil},
		"keepalived":                         {map[string]string{"/proc/7/comm": "keepalived", "/proc/8/comm": "conntrackd"}, []string{"fault keepalived", "fault conntrackd"}},
		"a firewall":                         {map[string]string{"/proc/7/comm": "firewalld", "/etc/ufw/ufw.conf": "# x\nENABLED=yes"}, []string{"warning firewalld", "warning ufw"}},
		"ufw off":                            {map[string]string{"/etc/ufw/ufw.conf": "ENABLED=no"}, nil},
		"networkd":                           {map[string]string{"/proc/7/comm": "systemd-network"}, []string{"warning systemd-networkd"}},
		"networkd, told":                     {merge(drop, map[string]string{"/proc/7/comm": "systemd-network"}), nil},
		"networkd, undone":                   {merge(drop, map[string]string{"/proc/7/comm": "systemd-network", "/etc/systemd/networkd.conf.d/99-x.conf": "[Network]\nManageForeignRoutes=yes"}), []string{"warning systemd-networkd"}},
		"networkd, hidden":                   {merge(drop, map[string]string{"/proc/7/comm": "systemd-network", "/etc/systemd/networkd.conf.d/10-harouter.conf": ""}), []string{"warning systemd-networkd"}},
		"networkd, a device":                 {merge(device, nil), []string{"warning lan0"}},
		"networkd, a device it leaves alone": {merge(device, map[string]string{"/run/systemd/netif/links/3": "ADMIN_STATE=unmanaged"}), nil},
		"networkd, a device, told": {merge(device, map[string]string{"/etc/systemd/network/lan.network": "[Network]\nKeepConfiguration=no",
			"/etc/systemd/network/lan.network.d/keep.conf": "[Network]\nKeepConfiguration = static"}), nil},
		"networkd, a device, told wrong": {merge(device, map[string]string{"/etc/systemd/network/lan.network": "[Network]\nKeepConfiguration=dhcp"}), []string{"warning lan0"}},
		"NetworkManager": {map[string]string{"/proc/7/comm": "NetworkManager", "/sys/class/net/lan0/ifindex": "3", "/sys/class/net/wan1/ifindex": "4",
			"/run/NetworkManager/devices/3": "[device]\nmanaged=false", "/run/NetworkManager/devices/4": "[device]\nmanaged=true"}, []string{"warning wan1"}},
	} {
		if diff := cmp.Diff(test.want, subjects(machine(t, test.files).Programs(site))); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func merge(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, of := range []map[string]string{a, b} {
		for k, v := range of {
			out[k] = v
		}
	}
	return out
}

func TestMachineFiles(t *testing.T) {
	good := map[string]string{
		"/sys/class/net/lan0/mtu": "1500", "/sys/class/net/lan0/carrier": "1", "/sys/class/net/wan1/mtu": "1492", "/sys/class/net/wan1/carrier": "1",
		"/proc/sys/net/ipv4/conf/all/rp_filter": "0", "/proc/sys/net/ipv6/conf/wan1/disable_ipv6": "0", "/proc/sys/kernel/sched_rt_runtime_us": "950000",
	}
	bridge := func(more map[string]string) map[string]string {
		return merge(merge(good, map[string]string{"/sys/class/net/lan0/bridge/multicast_snooping": "0", "/sys/class/net/lan0/bridge/stp_state": "0"}), more)
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"good":               {good, nil},
		"strict":             {merge(good, map[string]string{"/proc/sys/net/ipv4/conf/all/rp_filter": "1"}), []string{"warning net.ipv4.conf.all.rp_filter"}},
		"no real time":       {merge(good, map[string]string{"/proc/sys/kernel/sched_rt_runtime_us": "0"}), []string{"warning kernel.sched_rt_runtime_us"}},
		"nothing there":      {map[string]string{}, []string{"fault lan0", "fault wan1"}},
		"no carrier":         {merge(good, map[string]string{"/sys/class/net/wan1/carrier": "0"}), []string{"warning wan1"}},
		"jumbo lan":          {merge(good, map[string]string{"/sys/class/net/lan0/mtu": "9000"}), []string{"warning lan0"}},
		"IPv6 is off":        {merge(good, map[string]string{"/proc/sys/net/ipv6/conf/wan1/disable_ipv6": "1"}), []string{"fault wan1"}},
		"a port of a bridge": {merge(good, map[string]string{"/sys/class/net/lan0/master": "-> ../br0"}), []string{"fault lan0"}},
		"a good bridge":      {bridge(nil), nil},
		"snooping":           {bridge(map[string]string{"/sys/class/net/lan0/bridge/multicast_snooping": "1", "/sys/class/net/lan0/bridge/multicast_querier": "0"}), []string{"warning lan0"}},
		"snooping, asking":   {bridge(map[string]string{"/sys/class/net/lan0/bridge/multicast_snooping": "1", "/sys/class/net/lan0/bridge/multicast_querier": "1"}), nil},
		"STP":                {bridge(map[string]string{"/sys/class/net/lan0/bridge/stp_state": "1", "/sys/class/net/lan0/bridge/forward_delay": "1500"}), []string{"warning lan0"}},
		"netfilter":          {bridge(map[string]string{"/proc/sys/net/bridge/bridge-nf-call-iptables": "1"}), []string{"warning net.bridge.bridge-nf-call-iptables"}},
		"of others' bridges": {merge(good, map[string]string{"/proc/sys/net/bridge/bridge-nf-call-iptables": "1"}), nil},
	} {
		m := machine(t, test.files)
		got := subjects(append(append(m.Sysctls(), m.Bridges(site)...), m.Devices(site)...))
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestReport(t *testing.T) {
	var r Report
	r.Add("one", []Finding{{Level: Warning, Subject: "b", Text: "is odd", Mend: "leave it"}})
	r.Add("two", []Finding{{Level: Note, Subject: "c", Text: "is so"}, {Level: Fault, Subject: "a", Text: "is broken", Mend: "mend it"}})
	r.Close()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	want := "FAULT: a: is broken\n  mend: mend it\nWARNING: b: is odd\n  mend: leave it\nNOTE: c: is so\nlooked at one, two: 1 fault, 1 warning\n"
	if diff := cmp.Diff(want, b.String()); diff != "" || r.Healthy {
		t.Errorf("healthy %v\n%s", r.Healthy, diff)
	}
	var fine Report
	fine.Add("one", nil)
	if fine.Close(); !fine.Healthy || fine.Findings == nil {
		t.Errorf("%+v", fine)
	}
}
