package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"harouter/test/netlab"
)

// As in research/baseline-keepalived.md: one VRRPv3 instance on the LAN that
// holds the addresses of LAN and both WANs, real-time priority 50, three
// gratuitous ARPs, and the state told to conntrackd. Priorities and advert
// interval are those of our file. The kernel kills its VRRP process for using
// 10 ms of real-time at a stretch, by default, which happens on a machine that
// stalls: it gets a second.
const keepalivedConfig = `global_defs {
  vrrp_version 3
  vrrp_garp_master_repeat 3
  vrrp_rt_priority 50
  vrrp_rlimit_rttime 1000000
  script_user root
}
vrrp_instance gateway {
  state BACKUP
  interface lan0
  virtual_router_id 51
  priority %d
  advert_int %g
  virtual_ipaddress {
    192.168.77.1/24 dev lan0
    203.0.113.10/25 dev wan1
    203.0.113.140/25 dev wan2
  }
  notify_master "%[3]s master"
  notify_backup "%[3]s backup"
  notify_fault "%[3]s backup"
}
`

// What conntrackd's manual has a router do that becomes master: bring what was
// received into the kernel, drop it from the cache, read the kernel's table and
// tell the other all of it; and one that becomes backup: have its own flows
// end soon, and ask for the other's.
const keepalivedNotify = `#!/bin/sh
tell() { for what; do %[1]s -C %[2]s "$what"; done; }
case $1 in
master) tell -c -f -R -B ;;
backup) tell -t -n ;;
esac
`

// What an admin who takes care adds: new flows of the LAN are drawn 2:1 and
// stay on their line, translated to its virtual address; nothing without an
// entry is forwarded, nor taken from the ISPs.
const keepalivedRules = `table ip router {
  chain pre {
    type filter hook prerouting priority mangle
    iifname "lan0" ct state new ct mark set numgen random mod 3 map { 0: 0x100, 1: 0x100, 2: 0x200 }
    iifname "lan0" meta mark set ct mark
  }
  chain forward {
    type filter hook forward priority filter
    ct state invalid drop
  }
  chain input {
    type filter hook input priority filter
    iifname { "wan1", "wan2" } ct state established,related accept
    iifname { "wan1", "wan2" } meta l4proto icmp accept
    iifname { "wan1", "wan2" } drop
  }
  chain post {
    type nat hook postrouting priority srcnat
    oifname "wan1" ip saddr 192.168.77.0/24 snat to 203.0.113.10
    oifname "wan2" ip saddr 192.168.77.0/24 snat to 203.0.113.140
  }
}
`

// theirPair is keepalived and conntrackd on both.
type theirPair struct {
	*netlab.Site
	daemons, sync map[string]*netlab.Process
}

func newTheirPair(advertise time.Duration) (pair, error) {
	for _, t := range []string{"keepalived", "conntrackd"} {
		if _, err := os.Stat(tool(t)); err != nil {
			return nil, fmt.Errorf("%s is not installed: %w", t, err)
		}
	}
	s, err := newSite(netlab.PairOptions{WANOwn: true})
	if err != nil {
		return nil, err
	}
	p := &theirPair{Site: s, daemons: map[string]*netlab.Process{}, sync: map[string]*netlab.Process{}}
	for name, priority := range map[string]int{"r1": 200, "r2": 150} {
		r := s.Router(name)
		notify := filepath.Join(r.ConfigDir(), "notify")
		if err := errors.Join(
			os.WriteFile(filepath.Join(r.ConfigDir(), "keepalived.conf"), fmt.Appendf(nil, keepalivedConfig, priority, advertise.Seconds(), notify), 0o644),
			os.WriteFile(notify, fmt.Appendf(nil, keepalivedNotify, tool("conntrackd"), conntrackdFile(r)), 0o755),
			p.configure(name, "Off"),
			r.Sysctl("net.ipv4.ip_forward", "1"),
			r.Sysctl("net.netfilter.nf_conntrack_tcp_loose", "0"),
			r.Sysctl("net.netfilter.nf_conntrack_tcp_be_liberal", "1"),
			r.IP("route add default via 203.0.113.1 dev wan1",
				"route add default via 203.0.113.1 dev wan1 table 101", "rule add fwmark 0x100 lookup 101 priority 101",
				"route add default via 203.0.113.129 dev wan2 table 102", "rule add fwmark 0x200 lookup 102 priority 102"),
			r.NFT(keepalivedRules),
		); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return p, nil
}

func (p *theirPair) lab() *netlab.Site { return p.Site }

func (p *theirPair) start(routers ...string) error {
	for _, name := range routers {
		if d := p.sync[name]; d == nil || d.Ended() != 0 {
			if err := p.startSync(name); err != nil {
				return err
			}
		}
		r := p.Router(name)
		run := r.RunDir()
		// After a SIGKILL: where nobody buries the dead child, it counts as running.
		if err := remove(run, "keepalived.pid", "vrrp.pid"); err != nil {
			return err
		}
		d, err := r.Start("keepalived", tool("keepalived"), "-P", "-n", "-l", "-D", "-f", filepath.Join(r.ConfigDir(), "keepalived.conf"),
			"-p", filepath.Join(run, "keepalived.pid"), "-r", filepath.Join(run, "vrrp.pid"))
		if err != nil {
			return err
		}
		p.daemons[name] = d
	}
	return nil
}

// remove takes files away that may be there.
func remove(dir string, names ...string) error {
	for _, n := range names {
		if err := os.Remove(filepath.Join(dir, n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (p *theirPair) settled() error {
	if err := held(p.Site, "r1"); err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond) // its gratuitous ARPs are out, the peer has heard it
	return held(p.Site, "r1")
}

func (p *theirPair) leave(router string) error {
	_, err := p.daemons[router].Stop(10 * time.Second)
	return err
}

// kill ends both its processes as one. Of two that see each other die, the
// parent would start the child again, and the child would leave in good order;
// and a stopped child goes on when its parent dies: the child first.
func (p *theirPair) kill(router string) error {
	r, parent := p.Router(router), p.daemons[router]
	if err := r.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	all, err := r.Processes()
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.PID != parent.PID {
			err = errors.Join(err, syscall.Kill(c.PID, syscall.SIGKILL))
		}
	}
	return errors.Join(err, parent.Kill())
}
