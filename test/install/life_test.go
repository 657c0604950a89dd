package install

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
	"harouter/test/site"
)

// files lists what a container has, but for what dpkg, systemd and logs keep.
const files = `find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /root \
	-o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -path /var/lib/systemd -o -path /etc/mtab \) -prune -o -print | sort`

// TestLife: from nothing to a running pair with the package, upgrade under
// traffic, and purge.
func TestLife(t *testing.T) {
	dir := sources(t)
	one, two := deb(t, dir, "1.0.0"), deb(t, dir, "1.0.1")
	lower := debian(t)
	s := netlab.ForTest(t, netlab.Pair(netlab.PairOptions{}))
	_, err := s.Serve("net")
	must(t, err)
	r1, r2 := boot(t, s.Router("r1"), lower), boot(t, s.Router("r2"), lower)
	before := r2.sh(files)
	rulesBefore := r2.sh("ip rule; ip -br addr; ip route show table all proto 111 2>/dev/null; true")

	for _, r := range []*container{r1, r2} {
		r.sh(helpers)
	}

	// A first installation says what is next, and starts nothing.
	for _, r := range []*container{r1, r2} {
		r.put(one, "/root/one.deb")
		r.put(two, "/root/two.deb")
		if r == r2 { // beside another one that does the same
			r.sh(`printf '[Service]\nExecStart=/bin/sleep 1000\n' >/run/systemd/system/keepalived.service
				systemctl daemon-reload && systemctl start keepalived`)
		}
		out := r.sh("dpkg -i /root/one.deb")
		if strings.Contains(out, "keepalived runs on this machine") != (r == r2) {
			t.Errorf("%s: what it says of keepalived:\n%s", r.node.Name, out)
		}
		if !strings.Contains(out, "next, on the first router: harouter init") {
			t.Errorf("%s: installing says nothing of what is next:\n%s", r.node.Name, out)
		}
		r.sh("systemctl is-enabled harouter; ! systemctl is-active harouter")
	}
	r2.sh("systemctl stop keepalived && rm /run/systemd/system/keepalived.service && systemctl daemon-reload")
	if out := r1.sh("harouter doctor"); !strings.Contains(out, "there is no configuration yet") { // before, it looks at the machine
		t.Errorf("doctor on a new machine:\n%s", out)
	}
	r1.sh(`harouter init --address 192.0.2.1 --lan office=lan0,192.168.77.1/24 \
		--uplink cable=wan1,gateway=203.0.113.1,address=203.0.113.10/25,weight=2 --uplink dsl=wan2,gateway=203.0.113.129,address=203.0.113.140/25
		sed -i 's/# probe: .*/probe: {targets: [198.51.100.1, 198.51.100.2], interval: 200ms, timeout: 200ms}/' /etc/harouter/harouter.yaml
		printf 'vrrp: {preempt_delay: 2s}\nservices: [from-harouter]\nmail: {to: [root]}\n' >>/etc/harouter/harouter.yaml
		harouter check && systemctl start harouter`)
	r1.wait("r1 to be master", "harouter status | grep -q 'r1 is master'", 20*time.Second)
	line := strings.TrimSpace(lastLine(r1.sh("harouter token 2>/dev/null")))
	r2.sh(line + " --address 192.0.2.2 --priority 150 && systemctl start harouter")
	synced := `harouter status --json | tr -d ' \n' | grep -q '"state":"synced"'`
	r1.wait("r1 and r2 to be in sync", synced, 30*time.Second)
	r2.wait("r2 to hear r1", "harouter status | grep -q 'r1 is master'", 10*time.Second)
	if out, err := r1.try("harouter doctor"); err != nil {
		t.Errorf("doctor finds faults in a good pair: %v\n%s", err, out)
	} else {
		t.Logf("doctor:\n%s", out)
	}

	r1.wait("the master's service", "systemctl is-active from-harouter", 10*time.Second)
	r1.wait("a mail", "grep -q '^Subject: ' /var/spool/from-harouter", 30*time.Second)
	t.Run("the service", func(t *testing.T) { service(t, r2) })
	r1.wait("r1 and r2 to be in sync again", synced, 30*time.Second)

	client, err := s.Load("h1", netlab.StandardLoad(site.Server, site.LANAddress))
	must(t, err)
	time.Sleep(2 * time.Second) // of traffic, before anything happens
	for _, r := range []*container{r1, r2} {
		s.Mark("upgrade of " + r.node.Name)
		out := r.sh("dpkg -i /root/two.deb")
		t.Logf("upgrade of %s:\n%s", r.node.Name, out)
		if strings.Contains(out, "handed over") != (r == r1) { // on the backup there is nothing to hand over
			t.Errorf("upgrade of %s: who hands over is the master", r.node.Name)
		}
		r.wait("the new version on "+r.node.Name, `harouter status --json | tr -d ' \n' | grep -q '"version":"1.0.1"'`, 10*time.Second)
		r1.wait("r1 and r2 to be in sync", synced, 30*time.Second)
		r1.wait("the role to be back", "harouter status | grep -q 'r1 is master'", 30*time.Second)
	}
	rep, err := client.Stop()
	must(t, err)
	t.Logf("both upgrades: longest gap of the flows %v, lost %d, survivors %d, machine late %v",
		rep.GapSince("upgrade of r1"), rep.LostSince("upgrade of r1"), rep.Survivors(), rep.Lag)
	// A machine that stands still for longer than the queues of the devices last says
	// nothing about single packets; connections must stay all the same.
	if n := rep.LostSince("upgrade of r1"); n > 0 && rep.Lag < 50*time.Millisecond {
		t.Errorf("%d datagrams were lost by the upgrades", n)
	}
	for _, f := range rep.TCP {
		if f.Err != "" {
			t.Errorf("a connection from %v broke %v after the first upgrade began: %s", f.Local, f.ErrAt.Sub(rep.Mark("upgrade of r1")), f.Err)
		}
	}
	for _, f := range rep.Renatted("") {
		t.Errorf("a flow changed its source: %v", f.Seen)
	}
	if rep.Survivors() != len(rep.TCP) {
		t.Errorf("%d connections of %d survived", rep.Survivors(), len(rep.TCP))
	}
	if t.Failed() {
		for _, r := range []*container{r1, r2} {
			t.Logf("%s:\n%s", r.node.Name, r.sh("journalctl -u harouter --no-pager -o cat -n 120; harouter status; harouter events -n 60"))
		}
	}

	r2.sh("rm -f /usr/sbin/sendmail /var/spool/from-harouter")
	// The administrator's configuration stays when the package goes, until the purge.
	r2.sh("dpkg -r harouter && test -e /etc/harouter/harouter.yaml && test -e /etc/default/harouter")
	if out := r2.sh("ps -eo comm,args | grep -v grep | grep '[h]arouter' || true"); out != "" {
		t.Errorf("still running after the removal: %s", out)
	}
	r2.sh("dpkg -P harouter")
	if diff := cmp.Diff(strings.Split(before, "\n"), strings.Split(r2.sh(files), "\n")); diff != "" {
		t.Errorf("the purge left files:\n%s", diff)
	}
	if diff := cmp.Diff(rulesBefore, r2.sh("ip rule; ip -br addr; ip route show table all proto 111 2>/dev/null; true")); diff != "" {
		t.Errorf("the purge left something in the kernel:\n%s", diff)
	}
	tables, err := s.Router("r2").Exec("nft", "list", "tables")
	must(t, err)
	if strings.Contains(tables, "harouter") {
		t.Errorf("the purge left %s", tables)
	}
	r1.wait("r1 to go on alone", "harouter status | grep -q 'r1 is master'", 10*time.Second)
}

// helpers is what the daemon uses from within its unit: a service, a sendmail and
// a hook that does what hooks do.
const helpers = `
for unit in from-harouter from-hook; do
	printf '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n' >/run/systemd/system/$unit.service
done
printf '#!/bin/sh\ncat >>/var/spool/from-harouter\n' >/usr/sbin/sendmail
cat >/root/hook <<'EOF'
#!/bin/sh
test -e /run/hook && exit
exec >/run/hook 2>&1
echo began
systemctl start from-hook && systemctl is-active -q from-hook && echo from-hook runs
for dir in /etc /var/lib /var/spool /var/log /run /tmp; do
	echo x >$dir/from-hook && rm $dir/from-hook || exit
done
echo wrote
test "$(runuser -u nobody -- id -un)" = nobody && echo as nobody
sysctl -q -w net.ipv4.conf.lo.log_martians=1 && echo set a sysctl
touch /usr/from-hook || echo /usr is not to be written
echo end
EOF
chmod 755 /usr/sbin/sendmail
systemctl daemon-reload`

// service is what systemd does with the daemon.
func service(t *testing.T, r *container) {
	pid := func() string {
		return strings.TrimSpace(r.sh("systemctl show -p MainPID --value harouter"))
	}
	first := pid()
	r.sh("systemctl kill --kill-whom=main -s KILL harouter")
	r.wait("systemd to start it again", "p=$(systemctl show -p MainPID --value harouter); test $p != 0 && test $p != "+first+" && systemctl is-active harouter", 15*time.Second)
	second := pid()
	r.sh("systemctl reload harouter")
	if p := pid(); p != second {
		t.Errorf("a reload restarted it: %s, was %s", p, second)
	}
	r.sh("harouter stop")
	time.Sleep(2 * time.Second) // longer than RestartSec
	if out, _ := r.try("systemctl is-active harouter"); strings.TrimSpace(out) != "inactive" {
		t.Errorf("after harouter stop the service is %s", out)
	}
	r.sh("install -d /etc/harouter/hooks/uplink-up.d; install -m 755 /root/hook /etc/harouter/hooks/uplink-up.d; systemctl start harouter")
	r.wait("a hook", "grep -q ^end /run/hook", 20*time.Second)
	if diff := cmp.Diff("began\nfrom-hook runs\nwrote\nas nobody\nset a sysctl\n/usr is not to be written\nend\n", r.sh("rm /etc/harouter/hooks/uplink-up.d/hook; grep -v ': ' /run/hook")); diff != "" {
		t.Errorf("what a hook can do:\n%s\n%s", diff, r.sh("cat /run/hook"))
	}
	// It lives beneath all that the unit forbids, and has what it needs.
	log := r.sh("journalctl -u harouter --no-pager -o cat")
	if m := regexp.MustCompile(`(?m)^.*(permitted|denied|lacking).*$`).FindString(log); m != "" {
		t.Errorf("it lacks rights in its unit: %s", m)
	}
	if out := r.sh("systemctl show -p WatchdogUSec -p NRestarts harouter"); !strings.Contains(out, "WatchdogUSec=20s") {
		t.Errorf("watchdog: %s", out)
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
