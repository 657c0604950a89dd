package netlab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Node is one machine of a site: a namespace with its devices and processes.
type Node struct {
	Name string
	Kind Kind

	site      *Site
	isp       *ISPSpec // of an ISP
	ports     []*Port
	routes    []string
	loopback  []netip.Prefix
	sysctls   []sysctl
	namespace atomic.Pointer[os.File] // nil while powered off
	dark      atomic.Bool             // its power is being taken, or gone
}

type sysctl struct{ name, value string }

// Namespace is the node's name for `ip netns exec`.
func (n *Node) Namespace() string { return n.site.Prefix + "-" + n.Name }

func (n *Node) namespacePath() string { return filepath.Join(namespaceDir, n.Namespace()) }

// shut lets go of the namespace.
func (n *Node) shut() {
	if ns := n.namespace.Swap(nil); ns != nil {
		ns.Close()
	}
}

// Dir is the node's folder of files. It outlives a power-off, as a disk does.
func (n *Node) Dir() string { return filepath.Join(n.site.Dir, n.Name) }

// RunDir is a folder that a power-off empties, as it does /run.
func (n *Node) RunDir() string { return filepath.Join(n.Dir(), "run") }

// StateDir is a folder for state that outlives the node's reboots.
func (n *Node) StateDir() string { return filepath.Join(n.Dir(), "state") }

// ConfigDir is the folder for the node's own copy of a configuration.
func (n *Node) ConfigDir() string { return filepath.Join(n.Dir(), "etc") }

// Port is the node's port with that device; a device that is not there is a
// mistake in the test, and a panic.
func (n *Node) Port(device string) *Port {
	for _, p := range n.ports {
		if p.Device == device {
			return p
		}
	}
	panic(fmt.Sprintf("netlab: %s has no device %q", n.Name, device))
}

// Ports are all ports of the node in the order in which they were wired.
func (n *Node) Ports() []*Port { return append([]*Port(nil), n.ports...) }

// Exec runs a program in the node and returns its standard output; what it
// wrote to standard error is in the error.
func (n *Node) Exec(argv ...string) (string, error) {
	return n.ExecInput("", argv...)
}

// ExecInput is Exec with something on standard input.
func (n *Node) ExecInput(input string, argv ...string) (string, error) {
	return run(input, "ip", append([]string{"netns", "exec", n.Namespace()}, argv...)...)
}

// IP runs lines of `ip` in the node in one process: IP("addr add …", "route del …").
func (n *Node) IP(lines ...string) error {
	return n.in(func() error { return ipBatch(strings.Join(lines, "\n") + "\n") })
}

// NFT loads a script of `nft -f` in the node.
func (n *Node) NFT(script string) error {
	return n.in(func() error {
		_, err := run(script, "nft", "-f", "-")
		return err
	})
}

// RouteDump is the text of all rules and all routes of every table, IPv4 and
// IPv6, to compare before and after.
func (n *Node) RouteDump() (string, error) {
	var out strings.Builder
	err := n.in(func() error {
		for _, args := range []string{"-4 rule show", "-4 route show table all", "-6 rule show", "-6 route show table all"} {
			text, err := run("", "ip", strings.Fields(args)...)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, "# ip %s\n%s", args, text)
		}
		return nil
	})
	return out.String(), err
}

// Addresses lists the addresses the node has now, by device.
func (n *Node) Addresses() (map[string][]netip.Prefix, error) {
	found := map[string][]netip.Prefix{}
	err := n.in(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		links, err := h.LinkList()
		if err != nil {
			return err
		}
		name := map[int]string{}
		for _, l := range links {
			name[l.Attrs().Index] = l.Attrs().Name
		}
		addrs, err := h.AddrList(nil, netlink.FAMILY_ALL)
		for _, a := range addrs {
			found[name[a.LinkIndex]] = append(found[name[a.LinkIndex]], prefixOf(a.IPNet))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", n.Name, err)
	}
	return found, nil
}

// on tells whether the node has power.
func (n *Node) on() bool { return n.namespace.Load() != nil && !n.dark.Load() }

// in runs do on the site's thread inside the node's namespace.
func (n *Node) in(do func() error) error {
	if err := n.site.thread.in(n.namespace.Load(), do); err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	return nil
}

// writeSysctls is called inside the namespace. A setting that this kernel does
// not have is none that could do harm.
func (n *Node) writeSysctls() error {
	for _, s := range n.sysctls {
		if err := os.WriteFile(sysctlPath(s.name), []byte(s.value), 0o644); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	return nil
}
