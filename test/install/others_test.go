package install

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
)

// TestBesideOthers: systemd-networkd and NetworkManager take away what harouter
// made, without the files that the package has against that, and with them they do
// not.
func TestBesideOthers(t *testing.T) {
	t.Parallel()
	one, lower := deb(t, sources(t), "1.0.0"), debian(t)
	for name, f := range map[string]func(*beside){"networkd": networkd, "NetworkManager": networkManager} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := netlab.ForTest(t, netlab.Pair(netlab.PairOptions{Routers: 1}))
			b := &beside{boot(t, s.Router("r1"), lower)}
			b.put(one, "/root/one.deb")
			b.sh("dpkg -i /root/one.deb")
			f(b)
		})
	}
}

// own are the router's own addresses, which the other program sets up.
var own = map[string]string{"lan0": "192.168.77.2/24", "wan1": "203.0.113.2/25", "wan2": "203.0.113.130/25", "sync0": "192.0.2.1/24"}

// beside is a lone router that is master beside a program that sets up devices.
type beside struct{ *container }

// begin starts harouter; lan says more of the lan.
func (b *beside) begin(lan string) {
	b.t.Helper()
	b.sh(`printf '%s\n' 'cluster: home' 'nodes: {r1: {address: 192.0.2.1}}' 'lans:' \
		'  - {name: office, device: lan0, virtual_addresses: [192.168.77.1/24, "2001:db8:77::1/64"]` + lan + `}' 'uplinks:' \
		'  - {name: cable, device: wan1, gateway: 203.0.113.1, virtual_addresses: [203.0.113.10/25]}' \
		'  - {name: dsl, device: wan2, gateway: 203.0.113.129, virtual_addresses: [203.0.113.140/25]}' >/etc/harouter/harouter.yaml
		(umask 077; head -c 32 /dev/urandom | base64 >/etc/harouter/cluster.key)
		systemctl start harouter`)
	b.whole("the start")
}

// whole waits until the master has all that it should have.
func (b *beside) whole(what string) {
	b.t.Helper()
	b.wait("all addresses, rules and routes after "+what, `test "$(ip rule | grep -c '^7[0-9]*:')" = 8 &&
		test "$(ip -o addr | grep -c -e 192.168.77.1/ -e 2001:db8:77::1/ -e 203.0.113.10/ -e 203.0.113.140/)" = 4 &&
		ip route show table 7001 | grep -q ^default && ip route show table 7002 | grep -q ^default`, 20*time.Second)
}

// repaired are the repairs so far, by what was missing.
func (b *beside) repaired() map[string]uint64 {
	b.t.Helper()
	var s struct{ Repairs map[string]uint64 }
	if err := json.Unmarshal([]byte(b.sh("harouter status --json")), &s); err != nil {
		b.t.Fatal(err)
	}
	return s.Repairs
}

// takes wants that a shell line takes things away, which come back.
func (b *beside) takes(line string, things ...string) {
	b.t.Helper()
	before := b.repaired()
	b.sh(line)
	if err := netlab.WaitFor("repairs", 20*time.Second, func() bool {
		now := b.repaired()
		for _, thing := range things {
			if now[thing] == before[thing] {
				return false
			}
		}
		return true
	}); err != nil {
		b.t.Errorf("%s takes not all of %v away: repaired %v, before %v", line, things, b.repaired(), before)
	}
	b.whole(line)
}

// leaves wants that a shell line, which returns when all is done, takes nothing away.
func (b *beside) leaves(line string) {
	b.t.Helper()
	b.unmoved(line, func() { b.sh(line) })
}

// unmoved is leaves for something else.
func (b *beside) unmoved(what string, do func()) {
	b.t.Helper()
	before := b.repaired()
	do()
	b.whole(what)
	time.Sleep(time.Second) // within which it would have been repaired
	if diff := cmp.Diff(before, b.repaired()); diff != "" {
		b.t.Errorf("%s took something away, repairs:\n%s", what, diff)
	}
}

// warned are the subjects of doctor's findings about the other program.
func (b *beside) warned(program string) (subjects []string) {
	b.t.Helper()
	out, _ := b.try("harouter doctor --json 2>/dev/null") // its exit code tells of others
	var r struct {
		Findings []struct{ Subject, Text string }
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		b.t.Fatalf("doctor: %v\n%s", err, out)
	}
	for _, f := range r.Findings {
		if strings.Contains(f.Text, program) {
			subjects = append(subjects, f.Subject)
		}
	}
	return subjects
}

// cable pulls a cable and plugs it.
func (b *beside) cable(device string) {
	b.t.Helper()
	port, carrier := b.node.Port(device), "/sys/class/net/"+device+"/carrier"
	b.unmoved("a cable pulled and plugged", func() {
		must(b.t, port.Unplug())
		b.wait("no carrier", "test $(cat "+carrier+") = 0", 10*time.Second)
		time.Sleep(500 * time.Millisecond) // for the other program to see it
		must(b.t, port.Plug())
		b.wait("a carrier", "test $(cat "+carrier+") = 1", 10*time.Second)
	})
}

func networkd(b *beside) {
	const conf = "/usr/lib/systemd/networkd.conf.d/10-harouter.conf"
	var files, keep strings.Builder
	for device, address := range own {
		fmt.Fprintf(&files, "printf '[Match]\\nName=%s\\n[Network]\\nAddress=%s\\nIPv6AcceptRA=no\\n' >/etc/systemd/network/10-%[1]s.network\n", device, address)
		fmt.Fprintf(&keep, "install -D -m 644 /usr/share/doc/harouter/examples/keep-addresses.conf /etc/systemd/network/10-%s.network.d/harouter.conf\n", device)
	}
	b.put("networkd.sh", "/root/networkd.sh")
	b.sh(files.String() + `chmod 755 /root/networkd.sh
		mkdir -p /run/systemd/system/systemd-networkd.service.d
		printf '[Service]\nExecStart=\nExecStart=+/root/networkd.sh\n' >/run/systemd/system/systemd-networkd.service.d/udev.conf
		mv ` + conf + ` /root/networkd.conf
		systemctl daemon-reload`)
	// Once it noted that of each device, after it was started, it has done its work.
	restart := `touch /run/began && systemctl restart systemd-networkd
		for i in $(seq 300); do
			test "$(find /run/systemd/netif/links -newer /run/began -exec grep -l ADMIN_STATE=configured {} + | wc -l)" = 4 && exit
			sleep 0.1
		done
		networkctl; journalctl -u systemd-networkd --no-pager -n 30; exit 1`
	b.sh(restart)
	b.begin("")
	if diff := cmp.Diff([]string{"systemd-networkd", "lan0", "wan1", "wan2"}, b.warned("systemd-networkd")); diff != "" {
		b.t.Errorf("doctor:\n%s", diff)
	}
	b.takes(restart, "address", "rule", "route")
	b.sh("mv /root/networkd.conf " + conf)
	b.takes(restart, "address")
	b.sh(keep.String())
	b.leaves(restart)
	if found := b.warned("systemd-networkd"); found != nil {
		b.t.Errorf("doctor: %v", found)
	}
	b.cable("wan1")
	b.leaves("networkctl reconfigure lan0 && /lib/systemd/systemd-networkd-wait-online -i lan0 --timeout 20")
}

func networkManager(b *beside) {
	const conf = "/usr/lib/NetworkManager/conf.d/10-harouter.conf"
	var files strings.Builder
	for device, address := range own {
		fmt.Fprintf(&files, `printf '[connection]\nid=%[1]s\ntype=ethernet\ninterface-name=%[1]s\n[ipv4]\nmethod=manual\naddress1=%s\n[ipv6]\nmethod=link-local\n' >%[1]s.nmconnection
			chmod 600 %[1]s.nmconnection
			ip addr flush dev %[1]s
			`, device, address)
	}
	b.sh("cd /etc/NetworkManager/system-connections\n" + files.String() + "mv " + conf + ` /root/nm.conf
		systemctl unmask NetworkManager && systemctl start NetworkManager && nm-online -s -t 20`)
	for device := range own {
		b.sh("nmcli connection up " + device)
	}
	b.begin(", virtual_mac: true")
	state := "nmcli -t -f DEVICE,STATE device | grep -v -e ^lo -e ^sync | LC_ALL=C sort"
	b.wait("NetworkManager to see all devices", "test $(nmcli -t -f STATE device | grep -c ^connected) = 7", 20*time.Second)
	if diff := cmp.Diff("hrv-office:connected (externally)\nhrv6-office:connected (externally)\nlan0:connected\nwan1:connected\nwan2:connected\n", b.sh(state)); diff != "" {
		b.t.Errorf("what it manages:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"lan0", "wan1", "wan2"}, b.warned("NetworkManager")); diff != "" {
		b.t.Errorf("doctor:\n%s", diff)
	}
	b.takes("nmcli device reapply wan1", "address") // of the devices of virtual MACs only where it saw these before their addresses
	b.sh("mv /root/nm.conf " + conf + `
		printf '[keyfile]\nunmanaged-devices+=interface-name:lan0,interface-name:wan1,interface-name:wan2\n' >/etc/NetworkManager/conf.d/routers.conf`)
	b.leaves("systemctl restart NetworkManager && nm-online -s -t 20")
	if diff := cmp.Diff("hrv-office:unmanaged\nhrv6-office:unmanaged\nlan0:unmanaged\nwan1:unmanaged\nwan2:unmanaged\n", b.sh(state)); diff != "" {
		b.t.Errorf("what it manages:\n%s", diff)
	}
	b.cable("wan1")
	b.leaves("nmcli connection reload && nmcli general reload && ! nmcli device reapply hrv-office")
}
