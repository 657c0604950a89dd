package netlab

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Reaches tells whether the node gets an answer to a ping of an IPv4 address;
// it asks ten times a second until then.
func (n *Node) Reaches(addr netip.Addr, within time.Duration) bool {
	var p *pulse
	err := n.in(func() (err error) {
		p, err = newPingPulse(rand.Uint32(), Ping{Target: addr})
		return err
	})
	if err != nil {
		return false // no route is no answer
	}
	defer unix.Close(p.fd)
	polls := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	for deadline := Now().Add(within); Now() < deadline; {
		p.send(Now())
		ts := timespec(min(100*time.Millisecond, deadline.Sub(Now())))
		_, _ = unix.Ppoll(polls, &ts, nil)
		if p.receive(); p.top > 0 {
			return true
		}
	}
	return false
}

// Sysctl writes a setting of the node's kernel: Sysctl("net.ipv4.ip_forward", "1").
func (n *Node) Sysctl(name, value string) error {
	return n.in(func() error { return os.WriteFile(sysctlPath(name), []byte(value), 0o644) })
}

// ReadSysctl reads a setting of the node's kernel.
func (n *Node) ReadSysctl(name string) (string, error) {
	var value []byte
	err := n.in(func() (err error) { value, err = os.ReadFile(sysctlPath(name)); return err })
	return strings.TrimSpace(string(value)), err
}

// sysctlPath takes dots for slashes and slashes for dots, as sysctl does: a
// device "eth0.5" is written eth0/5.
func sysctlPath(name string) string {
	return "/proc/sys/" + strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}
