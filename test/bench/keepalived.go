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
// gratuitous ARPs. Priorities and advert interval are those of our file. The
// kernel kills its VRRP process for using 10 ms of real-time at a stretch, by
// default, which happens on a machine that stalls: it gets a second.
const keepalivedConfig = `global_defs {
  vrrp_version 3
  vrrp_garp_master_repeat 3
  vrrp_rt_priority 50
  vrrp_rlimit_rttime 1000000
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
}
`

// What an admin adds so that the LAN's traffic flows: all of it by the first
// ISP, from its virtual address. The default route is there before the address.
const keepalivedNAT = `table ip nat {
  chain post {
    type nat hook postrouting priority srcnat
    oifname "wan1" ip saddr 192.168.77.0/24 snat to 203.0.113.10
    oifname "wan2" ip saddr 192.168.77.0/24 snat to 203.0.113.140
  }
}
`

// theirPair is keepalived on both.
type theirPair struct {
	*netlab.Site
	daemons map[string]*netlab.Process
}

func newTheirPair(advertise time.Duration) (pair, error) {
	if _, err := os.Stat(tool("keepalived")); err != nil {
		return nil, fmt.Errorf("keepalived is not installed: %w", err)
	}
	s, err := newSite(netlab.PairOptions{WANOwn: true})
	if err != nil {
		return nil, err
	}
	for name, priority := range map[string]int{"r1": 200, "r2": 150} {
		r := s.Router(name)
		text := fmt.Sprintf(keepalivedConfig, priority, advertise.Seconds())
		if err := errors.Join(
			os.WriteFile(filepath.Join(r.ConfigDir(), "keepalived.conf"), []byte(text), 0o644),
			r.Sysctl("net.ipv4.ip_forward", "1"),
			r.IP("route add default via 203.0.113.1 dev wan1"),
			r.NFT(keepalivedNAT),
		); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return &theirPair{Site: s, daemons: map[string]*netlab.Process{}}, nil
}

func (p *theirPair) lab() *netlab.Site { return p.Site }

func (p *theirPair) start(routers ...string) error {
	for _, name := range routers {
		r := p.Router(name)
		run := r.RunDir()
		// After a SIGKILL: where nobody buries the dead child, it counts as running.
		for _, left := range []string{"keepalived.pid", "vrrp.pid"} {
			if err := os.Remove(filepath.Join(run, left)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
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
