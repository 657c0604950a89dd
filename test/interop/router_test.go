package interop

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// The LAN: r1 and r2 have own addresses, whoever is master the virtual ones.
// r2 has the greater address: it wins a tie.
const (
	vrid     = 51
	virtual4 = "192.168.77.1"
	virtual6 = "fe80::1"
)

var (
	own4 = map[string]string{"r1": "192.168.77.2", "r2": "192.168.77.3"}
	own6 = map[string]string{"r1": "fe80::2", "r2": "fe80::3"}
)

// own is a node's address on the LAN, from which it sends adverts.
func (s settings) own(node string) string {
	if s.six {
		return own6[node]
	}
	return own4[node]
}

func other(node string) string {
	if node == "r1" {
		return "r2"
	}
	return "r1"
}

// settings are what both sides of an election agree on.
type settings struct {
	version   int
	advertise time.Duration
	six       bool
	unicast   bool
	password  string // of version 2
	checksum  string // of harouter: pseudo, plain
}

// virtual is the address that is elected about.
func (s settings) virtual() netip.Prefix {
	if s.six {
		return netip.MustParsePrefix(virtual6 + "/64")
	}
	return netip.MustParsePrefix(virtual4 + "/24")
}

// member is what one side has of its own.
type member struct {
	priority int
	patient  bool // it does not preempt
	password string
}

// daemon is a router program that takes part in the election.
type daemon interface {
	String() string
	// start begins to run it on a node.
	start(l *lan, node string, s settings, m member) error
	// stop ends it as its operator would; it says so with priority 0.
	stop(l *lan, node string) error
}

// lan is the site: two routers on one LAN, everything they say recorded.
type lan struct {
	*netlab.Site
	cluster  *site.Cluster
	captures map[string]*netlab.Capture
	runs     map[string]*netlab.Process // keepalived, vrrpd
}

func newLAN(t testing.TB) *lan {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("interop tests need root (network namespaces): run them with sudo")
	}
	spec := netlab.Pair(netlab.PairOptions{NoCable: true})
	spec.ISPs, spec.Servers, spec.LANs[0].Hosts = nil, nil, 0
	for i := range spec.Routers { // own link-local addresses are ours to give, and known
		spec.Routers[i].Sysctls = map[string]string{"net.ipv6.conf.default.addr_gen_mode": "1", "net.ipv6.conf.default.accept_dad": "0"}
	}
	s := netlab.ForTest(t, spec)
	c, err := site.Install(s, "")
	must(t, err)
	l := &lan{Site: s, cluster: c, captures: map[string]*netlab.Capture{}, runs: map[string]*netlab.Process{}}
	for node := range own4 {
		l.captures[node], err = s.Port(node, "lan0").Capture(nil)
		must(t, err)
		must(t, l.address(node))
	}
	return l
}

// address gives a node its link-local address.
func (l *lan) address(node string) error {
	return l.Router(node).IP("address add " + own6[node] + "/64 dev lan0 nodad")
}

// crash takes a router's power.
func (l *lan) crash(t testing.TB, node string) netlab.Instant {
	t.Helper()
	at := netlab.Now()
	must(t, l.PowerOff(node))
	return at
}

// boot gives it back.
func (l *lan) boot(t testing.TB, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		must(t, l.PowerOn(node))
		must(t, l.address(node))
	}
}

// write puts a file into a node's folder of configurations.
func (l *lan) write(node, name, text string) (string, error) {
	path := filepath.Join(l.Router(node).ConfigDir(), name)
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// end stops a program with SIGTERM.
func (l *lan) end(node string) error {
	_, err := l.runs[node].Stop(10 * time.Second)
	return err
}

// harouter is the program under test.
type harouter struct{}

func (harouter) String() string { return "harouter" }

func (harouter) start(l *lan, node string, s settings, m member) error {
	more := ""
	if p := s.password + m.password; p != "" {
		more += fmt.Sprintf(", authentication: %q", p)
	}
	if s.checksum != "" {
		more += ", checksum: " + s.checksum
	}
	text := fmt.Sprintf(`cluster: home
nodes:
  %s: {address: %s, priority: %d}
vrrp: {id: %d, version: %d, advertise: %s, preempt: %t, preempt_delay: 0s, foreign: [%s], unicast_only: %t%s}
lans:
  - {name: office, device: lan0, virtual_addresses: [%v]}
`, node, own4[node], m.priority, vrid, s.version, s.advertise, !m.patient, s.own(other(node)), s.unicast, more, s.virtual())
	if err := os.WriteFile(l.cluster.ConfigFile(node), []byte(text), 0o644); err != nil {
		return err
	}
	return l.cluster.Run(node)
}

func (harouter) stop(l *lan, node string) error {
	code, err := l.cluster.Daemons[node].Stop(10 * time.Second)
	if err == nil && code != 0 {
		err = fmt.Errorf("harouter on %s ends with %d", node, code)
	}
	return err
}

// peers is where `make peers` unpacks the packages.
func peers() (string, error) {
	binary, err := site.Binary()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(binary), "peers")
	if d := os.Getenv("HAROUTER_PEERS"); d != "" {
		dir = d
	}
	if _, err := os.Stat(filepath.Join(dir, "usr/lib/frr/vrrpd")); err != nil {
		return "", fmt.Errorf("%w: run make peers first", err)
	}
	return dir, nil
}

// unpacked is the environment that finds the libraries of what is unpacked in dir.
func unpacked(dir string) []string {
	var path []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib/*-linux-gnu*/frr"} {
		libs, _ := filepath.Glob(filepath.Join(dir, pattern)) // the patterns are good
		path = append(path, libs...)
	}
	return []string{"env", "LD_LIBRARY_PATH=" + strings.Join(path, ":")}
}

type keepalived struct{}

func (keepalived) String() string { return "keepalived" }

func (keepalived) start(l *lan, node string, s settings, m member) error {
	dir, err := peers()
	if err != nil {
		return err
	}
	var more strings.Builder
	if p := s.password + m.password; p != "" {
		fmt.Fprintf(&more, "  authentication {\n    auth_type PASS\n    auth_pass %s\n  }\n", p)
	}
	if m.patient {
		more.WriteString("  nopreempt\n")
	}
	if s.unicast {
		fmt.Fprintf(&more, "  unicast_src_ip %s\n  unicast_peer {\n    %s\n  }\n", own4[node], own4[other(node)])
	}
	// The kernel kills its VRRP process for using 10 ms of real-time at a stretch,
	// by default, which happens on a machine that stalls: it gets a second.
	text := fmt.Sprintf(`global_defs {
  vrrp_version %d
  vrrp_garp_master_repeat 1
  vrrp_rt_priority 50
  vrrp_rlimit_rttime 1000000
}
vrrp_instance gateway {
  state BACKUP
  interface lan0
  virtual_router_id %d
  priority %d
  advert_int %g
%s  virtual_ipaddress {
    %v dev lan0
  }
}
`, s.version, vrid, m.priority, s.advertise.Seconds(), more.String(), s.virtual())
	conf, err := l.write(node, "keepalived.conf", text)
	if err != nil {
		return err
	}
	run := l.Router(node).RunDir()
	l.runs[node], err = l.Router(node).Start("keepalived", append(unpacked(dir), filepath.Join(dir, "usr/sbin/keepalived"), "-P", "-n", "-l", "-D",
		"-f", conf, "-p", filepath.Join(run, "keepalived.pid"), "-r", filepath.Join(run, "vrrp.pid"))...)
	return err
}

func (keepalived) stop(l *lan, node string) error { return l.end(node) }

type frr struct{}

func (frr) String() string { return "FRR" }

func (frr) start(l *lan, node string, s settings, m member) error {
	dir, err := peers()
	if err != nil {
		return err
	}
	r := l.Router(node)
	// Its virtual addresses stand on a macvlan of the virtual MAC all the time;
	// it is up while this router is master. Over IPv6 it speaks from the macvlan.
	mac, prefix, address := "00:00:5e:00:01:33", virtual4+"/24", "ip "+virtual4
	lines := []string{
		"link add vrrp4 link lan0 address " + mac + " type macvlan mode bridge",
		"address add " + prefix + " dev vrrp4",
		"link set vrrp4 up",
	}
	if s.six {
		mac, prefix, address = "00:00:5e:00:02:33", virtual6+"/64", "ipv6 "+virtual6
		lines = []string{
			"link add vrrp4 link lan0 address " + mac + " type macvlan mode bridge",
			"address del " + own6[node] + "/64 dev lan0",
			"address add " + prefix + " dev vrrp4 nodad",
			"address add " + own6[node] + "/64 dev vrrp4 nodad", // the last one is the first in the kernel's list, and the source
			"link set vrrp4 up",
		}
	}
	if out, err := r.Exec("ip", "link", "show", "vrrp4"); err == nil && out != "" {
		lines = nil // it was stopped and comes again
	}
	if lines != nil {
		if err := r.IP(lines...); err != nil {
			return err
		}
	}
	preempt := ""
	if m.patient {
		preempt = " no vrrp 51 preempt\n"
	}
	text := fmt.Sprintf("interface lan0\n vrrp %d version %d\n vrrp %d priority %d\n vrrp %d advertisement-interval %d\n%s vrrp %d %s\n",
		vrid, s.version, vrid, m.priority, vrid, s.advertise.Milliseconds(), preempt, vrid, address)
	conf, err := l.write(node, "vrrpd.conf", text)
	empty, err2 := l.write(node, "zebra.conf", "")
	// It asks for a group that its package makes at installation.
	group, err3 := l.write(node, "group", "root:x:0:\nfrr:x:998:\nfrrvty:x:999:root\n")
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	run := r.RunDir()
	launch := func(label, program, conf string) (*netlab.Process, error) {
		own := fmt.Sprintf("mount --bind %s /etc/group && mount -t tmpfs none /var/tmp && exec \"$@\"", group)
		argv := append(unpacked(dir), "sh", "-c", own, label, filepath.Join(dir, "usr/lib/frr", program), "-u", "root", "-g", "root",
			"-f", conf, "-i", filepath.Join(run, program+".pid"), "-z", filepath.Join(run, "zserv.api"), "--vty_socket", run,
			"-P", "0", "--log", "stdout")
		return r.Start(label, argv...)
	}
	zserv := filepath.Join(run, "zserv.api")
	if _, err := os.Stat(zserv); err != nil {
		if _, err := launch("zebra", "zebra", empty); err != nil {
			return err
		}
		if err := netlab.WaitFor("zebra's socket", 5*time.Second, func() bool { _, err := os.Stat(zserv); return err == nil }); err != nil {
			return err
		}
	}
	l.runs[node], err = launch("vrrpd", "vrrpd", conf)
	return err
}

func (frr) stop(l *lan, node string) error { return l.end(node) }
