package doctor

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// networkd looks whether systemd-networkd, which runs, keeps its hands off what it
// did not make.
func (m Machine) networkd(s Site) []Finding {
	var out []Finding
	conf := m.dropIns("/etc/systemd/networkd.conf", "systemd/networkd.conf.d")
	if !no(m.last(conf, "ManageForeignRoutes")) || !no(m.last(conf, "ManageForeignRoutingPolicyRules")) {
		out = append(out, Finding{Level: Warning, Subject: "systemd-networkd", Text: "systemd-networkd removes routes and rules that it did not make when it starts",
			Mend: "set ManageForeignRoutes=no and ManageForeignRoutingPolicyRules=no in /etc/systemd/networkd.conf.d/10-harouter.conf, under [Network]"})
	}
	for _, d := range s.devices() {
		file := m.network(d)
		if file == "" {
			continue
		}
		name := filepath.Base(file)
		if keep := m.last(m.dropIns(file, "systemd/network/"+name+".d"), "KeepConfiguration"); keep != "static" && (keep == "" || strings.HasPrefix(keep, "dhcp") || no(keep)) {
			out = append(out, Finding{Level: Warning, Subject: d, Text: "systemd-networkd takes the virtual addresses of this device away when it starts",
				Mend: fmt.Sprintf("KeepConfiguration=yes (of a device with DHCP: static) under [Network] in /etc/systemd/network/%s.d/harouter.conf", name)})
		}
	}
	return out
}

// network is the file by which networkd sets up a device; "" where it does not.
func (m Machine) network(device string) string {
	index := m.read("/sys/class/net/" + device + "/ifindex")
	if index == "" {
		return ""
	}
	return m.last([]string{"/run/systemd/netif/links/" + index}, "NETWORK_FILE")
}

// dropIns is a file and those that add to it, in their order: a name in /etc hides
// that in /usr.
func (m Machine) dropIns(file, dir string) []string {
	byName := map[string]string{}
	for _, of := range []string{"/usr/lib", "/usr/local/lib", "/run", "/etc"} {
		found, _ := filepath.Glob(filepath.Join(m.Root, of, dir, "*.conf"))
		for _, f := range found {
			byName[filepath.Base(f)] = strings.TrimPrefix(f, m.Root)
		}
	}
	files := []string{file}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		files = append(files, byName[name])
	}
	return files
}

// last is what the last line with that key says.
func (m Machine) last(files []string, key string) string {
	value := ""
	for _, f := range files {
		for line := range strings.Lines(m.read(f)) {
			if k, v, ok := strings.Cut(line, "="); ok && strings.TrimSpace(k) == key {
				value = strings.TrimSpace(v)
			}
		}
	}
	return value
}

func no(value string) bool {
	return slices.Contains([]string{"no", "false", "0", "off"}, strings.ToLower(value))
}
