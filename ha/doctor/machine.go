package doctor

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Machine is where to look.
type Machine struct {
	Root string // "" the machine itself
}

// Site is what the configuration uses of the machine.
type Site struct {
	Lans, Uplinks map[string]string // device by name
	Six           []string          // devices with virtual addresses of IPv6
	Ports         []int             // of the cluster's own talk
}

func (s Site) devices() []string {
	all := map[string]bool{}
	for _, of := range []map[string]string{s.Lans, s.Uplinks} {
		for _, d := range of {
			all[d] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// read is a file's text without the end of its line; "" where there is none.
func (m Machine) read(path string) string {
	b, err := os.ReadFile(filepath.Join(m.Root, path))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (m Machine) exists(path string) bool {
	_, err := os.Stat(filepath.Join(m.Root, path))
	return err == nil
}

// rivals are programs that do the same work.
var rivals = []struct{ program, text, mend string }{
	{"keepalived", "keepalived runs and moves addresses too", "systemctl disable --now keepalived; if it serves other addresses than harouter, give it another virtual_router_id"},
	{"conntrackd", "conntrackd runs and writes connections into the same table", "systemctl disable --now conntrackd: harouter copies connections itself"},
	{"ucarp", "ucarp runs and moves addresses too", "stop it, or give it other addresses"},
	{"vrrpd", "a VRRP daemon (vrrpd, of FRR for instance) runs here", "stop it, or give it another VRID: see vrrp.id"},
	{"foolsm", "foolsm runs and changes routes by what it pings", "stop it: harouter probes the lines itself"},
	{"lsm", "lsm runs and changes routes by what it pings", "stop it: harouter probes the lines itself"},
}

// Programs looks for running programs that would clash.
func (m Machine) Programs(s Site) []Finding {
	running := map[string]bool{}
	found, _ := filepath.Glob(filepath.Join(m.Root, "/proc/[0-9]*/comm"))
	for _, f := range found {
		if b, err := os.ReadFile(f); err == nil {
			running[strings.TrimSpace(string(b))] = true
		}
	}
	var out []Finding
	for _, r := range rivals {
		if running[r.program] {
			out = append(out, Finding{Level: Fault, Subject: r.program, Text: r.text, Mend: r.mend})
		}
	}
	var ports []string
	for _, p := range s.Ports {
		ports = append(ports, strconv.Itoa(p))
	}
	pass := fmt.Sprintf("let protocol 112 (VRRP) pass on the lans, and tcp and udp port %s between the routers' addresses", strings.Join(ports, " and "))
	if running["firewalld"] {
		out = append(out, Finding{Level: Warning, Subject: "firewalld", Text: "firewalld runs and may drop what the routers tell each other", Mend: pass + " (firewall-cmd --permanent --add-protocol=vrrp)"})
	}
	if strings.Contains(strings.ToLower(m.read("/etc/ufw/ufw.conf")), "enabled=yes") {
		out = append(out, Finding{Level: Warning, Subject: "ufw", Text: "ufw is on and may drop what the routers tell each other, and what is forwarded", Mend: pass + "; DEFAULT_FORWARD_POLICY=ACCEPT in /etc/default/ufw"})
	}
	if running["systemd-network"] { // comm has 15 characters
		out = append(out, m.networkd(s)...)
	}
	if running["NetworkManager"] {
		for _, d := range s.devices() {
			if m.managed(d) {
				out = append(out, Finding{Level: Warning, Subject: d, Text: "NetworkManager manages this device and may take addresses and routes away",
					Mend: fmt.Sprintf("unmanaged-devices+=interface-name:%s under [keyfile] in /etc/NetworkManager/conf.d/routers.conf, if its own addresses are fixed", d)})
			}
		}
	}
	return out
}

// managed tells whether NetworkManager has a device in its hands.
func (m Machine) managed(device string) bool {
	index := m.read("/sys/class/net/" + device + "/ifindex")
	return index != "" && strings.Contains(m.read("/run/NetworkManager/devices/"+index), "managed=true")
}

// Sysctls looks at settings of the whole machine that harouter leaves alone.
func (m Machine) Sysctls() []Finding {
	var out []Finding
	if m.read("/proc/sys/net/ipv4/conf/all/rp_filter") == "1" {
		out = append(out, Finding{Level: Warning, Subject: "net.ipv4.conf.all.rp_filter", Text: "is 1, so every device checks senders strictly, and answers over another line than the main route's are dropped; harouter makes its own devices loose",
			Mend: "net.ipv4.conf.all.rp_filter = 0 in /etc/sysctl.d, unless something else needs it"})
	}
	if v, err := strconv.Atoi(m.read("/proc/sys/kernel/sched_rt_runtime_us")); err == nil && v == 0 {
		out = append(out, Finding{Level: Warning, Subject: "kernel.sched_rt_runtime_us", Text: "is 0, so no process may have real-time priority", Mend: "sysctl -w kernel.sched_rt_runtime_us=950000"})
	}
	return out
}

// Bridges looks at bridges that harouter's devices are, or are part of.
func (m Machine) Bridges(s Site) []Finding {
	var out []Finding
	bridged := false
	for _, d := range s.devices() {
		base := "/sys/class/net/" + d
		if master, err := os.Readlink(filepath.Join(m.Root, base, "master")); err == nil {
			out = append(out, Finding{Level: Fault, Subject: d, Text: fmt.Sprintf("is part of %s, so it has no traffic of its own", filepath.Base(master)),
				Mend: fmt.Sprintf("write device: %s in the configuration", filepath.Base(master))})
		}
		if !m.exists(base + "/bridge") {
			continue
		}
		bridged = true
		if m.read(base+"/bridge/multicast_snooping") == "1" && m.read(base+"/bridge/multicast_querier") == "0" {
			out = append(out, Finding{Level: Warning, Subject: d, Text: "this bridge snoops on multicast without asking for listeners: where no other router asks, it stops to pass adverts after some minutes",
				Mend: fmt.Sprintf("ip link set %s type bridge mcast_querier 1 (or mcast_snooping 0), also in the network's configuration", d)})
		}
		if delay, _ := strconv.Atoi(m.read(base + "/bridge/forward_delay")); m.read(base+"/bridge/stp_state") == "1" && delay > 0 {
			out = append(out, Finding{Level: Warning, Subject: d, Text: fmt.Sprintf("this bridge speaks STP: a port that comes up is deaf for %d s, in which this router hears no other", 2*delay/100),
				Mend: "turn STP off on it if there can be no loop, or make ports to hosts edge ports"})
		}
	}
	if bridged && m.read("/proc/sys/net/bridge/bridge-nf-call-iptables") == "1" {
		out = append(out, Finding{Level: Warning, Subject: "net.bridge.bridge-nf-call-iptables", Text: "is 1: what is only switched on a bridge is translated and balanced too", Mend: "net.bridge.bridge-nf-call-iptables = 0 in /etc/sysctl.d"})
	}
	return out
}

// Devices looks at the devices of the file: there, up, and of one MTU.
func (m Machine) Devices(s Site) []Finding {
	var out []Finding
	mtu := map[string]int{}
	for _, d := range s.Six {
		if m.exists("/sys/class/net/"+d) && m.read("/proc/sys/net/ipv6/conf/"+d+"/disable_ipv6") != "0" { // no such file: the kernel has none
			out = append(out, Finding{Level: Fault, Subject: d, Text: "IPv6 is off on this device, so it cannot hold the virtual addresses of IPv6 that the file gives to it",
				Mend: fmt.Sprintf("net.ipv6.conf.%s.disable_ipv6 = 0 in /etc/sysctl.d (and no ipv6.disable=1 for the kernel), or take these addresses out of the file", d)})
		}
	}
	for _, d := range s.devices() {
		base := "/sys/class/net/" + d
		if !m.exists(base) {
			out = append(out, Finding{Level: Fault, Subject: d, Text: "there is no such device", Mend: "name the right one in the configuration, or under nodes.NAME.devices if it is named otherwise on this router only"})
			continue
		}
		mtu[d], _ = strconv.Atoi(m.read(base + "/mtu"))
		if m.read(base+"/carrier") != "1" {
			out = append(out, Finding{Level: Warning, Subject: d, Text: "has no carrier", Mend: "look at the cable and the other end; ip link set " + d + " up"})
		}
	}
	for _, lan := range slices.Sorted(maps.Keys(s.Lans)) {
		for _, uplink := range slices.Sorted(maps.Keys(s.Uplinks)) {
			in, outward := s.Lans[lan], s.Uplinks[uplink]
			if mtu[in] > 1500 && mtu[outward] > 0 && mtu[in] > mtu[outward] {
				out = append(out, Finding{Level: Warning, Subject: in, Text: fmt.Sprintf("lan %s has an MTU of %d and uplink %s one of %d: hosts depend on ICMP to learn it", lan, mtu[in], uplink, mtu[outward]),
					Mend: "let ICMP (fragmentation needed) pass everywhere, or give the lan the smaller one"})
			}
		}
	}
	return out
}
