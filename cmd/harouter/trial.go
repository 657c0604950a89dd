package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer/dataplane"
	"harouter/balancer/race"
	"harouter/conntracksync"
	"harouter/conntracksync/kernel"
	"harouter/vrrp"
	"harouter/vrrp/wire"
)

// trialVerb is the child of doctor in a network namespace of its own; people
// have no use for it.
const trialVerb = "kernel-trial"

// lack is something that the kernel refused.
type lack struct {
	Option string // of its configuration
	For    string // what it is needed for
	Error  string // what it said; empty: it does not have it
	Need   need
}

// trialResult is what the child says.
type trialResult struct {
	Lacks []lack
	Queue string // by what first packets wait for a race; empty: they cannot
}

// need is how much depends on it.
type need string

const (
	needed    need = "always"
	neededMAC need = "virtual_mac"
	useful    need = "useful"
)

func newTrial() *cobra.Command {
	return &cobra.Command{
		Use: trialVerb, Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(tryKernel(cmd.Context()))
		},
	}
}

// trial tries the kernel in a network namespace that ends with the child.
func trial(ctx context.Context) (trialResult, error) {
	c := exec.CommandContext(ctx, "/proc/self/exe", trialVerb)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return trialResult{}, fmt.Errorf("try the kernel in a network namespace of its own: %w", err)
	}
	var said trialResult
	if err := json.Unmarshal(out, &said); err != nil {
		return trialResult{}, fmt.Errorf("read what the trial of the kernel said: %w", err)
	}
	return said, nil
}

// tryKernel uses what harouter uses, and returns what is refused.
func tryKernel(ctx context.Context) trialResult {
	var out []lack
	try := func(option, what string, n need, f func() error) {
		if err := f(); err != nil {
			out = append(out, lack{option, what, err.Error(), n})
		}
	}
	options, queue, err := dataplane.Lacking()
	for _, o := range options {
		n, what := needed, "the nft table that balances and translates"
		switch o {
		case "NFT_SOCKET":
			n = useful
		case "XFRM":
			n, what = useful, "IPsec"
		case dataplane.OptionQueue:
			n, what = useful, "race: hold, which does as race: learn without it"
		}
		out = append(out, lack{Option: o, For: what, Need: n})
	}
	if err != nil {
		out = append(out, lack{"NF_TABLES", "the nft table that balances and translates", err.Error(), needed})
	}
	try("IP_MULTIPLE_TABLES", "a routing table for each uplink", needed, tryRules)
	try("VRRP sockets", "the election", needed, trySockets)
	try("NF_CT_NETLINK", "copying connections to the other routers", needed, func() error { return tryConnections(ctx) })
	try("NF_CONNTRACK_EVENTS", "telling new connections to the other routers", needed, func() error {
		l, err := kernel.NewListener(1<<20, 0, kernel.Handler{})
		if err != nil {
			return err
		}
		return l.Close()
	})
	try("NETFILTER_NETLINK_QUEUE", "race: hold, which does as race: learn without it", useful, race.Try)
	try("MACVLAN", "virtual MACs", neededMAC, tryMACs)
	return trialResult{Lacks: out, Queue: queue}
}

func tryRules() error {
	mask := uint32(0x3f00)
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table, rule.Mark, rule.Mask = unix.AF_INET, 7001, 7001, 0x100, &mask
	if err := netlink.RuleAdd(rule); err != nil {
		return fmt.Errorf("add a rule for a mark: %w", err)
	}
	all := net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	if err := netlink.RouteAdd(&netlink.Route{Dst: &all, Table: 7001, Type: unix.RTN_UNREACHABLE}); err != nil {
		return fmt.Errorf("add a route to the table 7001: %w", err)
	}
	return nil
}

func trySockets() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, vrrp.Protocol)
	if err != nil {
		return fmt.Errorf("open a socket of protocol %d: %w", vrrp.Protocol, err)
	}
	s, err := wire.NewFrameSender()
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	return errors.Join(s.Close(), unix.Close(fd))
}

// tryConnections writes a connection that another router could have told.
func tryConnections(ctx context.Context) error {
	i, err := kernel.NewInjector()
	if err != nil {
		return err
	}
	defer i.Close()
	there := conntracksync.Tuple{
		Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("198.51.100.1"),
		Protocol: conntracksync.UDP, SourcePort: 40000, DestinationPort: 53,
	}
	flow := conntracksync.Flow{Original: there, Reply: there.Inverse(), Mark: 0x100, Timeout: 30}
	refused, err := i.Install(ctx, []conntracksync.Flow{flow})
	if err != nil {
		return fmt.Errorf("write a connection: %w", err)
	}
	for _, r := range refused {
		return fmt.Errorf("write a connection: %w", r.Err)
	}
	return nil
}

// tryMACs makes a device with a virtual MAC upon a device made for that.
func tryMACs() error {
	parent := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "trial0"}}
	if err := netlink.LinkAdd(parent); err != nil {
		other := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "trial0"}, PeerName: "trial1"}
		if err := netlink.LinkAdd(other); err != nil {
			return nil // nothing to try it upon, which says nothing
		}
	}
	l, err := netlink.LinkByName("trial0")
	if err != nil {
		return fmt.Errorf("find the device of the trial: %w", err)
	}
	mac := &netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "trial-mac", ParentIndex: l.Attrs().Index, HardwareAddr: virtualMAC(51, false)}, Mode: netlink.MACVLAN_MODE_PRIVATE}
	if err := netlink.LinkAdd(mac); err != nil {
		return fmt.Errorf("make a macvlan device: %w", err)
	}
	return nil
}
