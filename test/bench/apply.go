package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
	"harouter/balancer/dataplane"
	"harouter/test/netlab"
)

// applyRole runs in a router: it applies a plan, fills the connection table,
// says "ready", waits for "go" and changes the weights over and over. Its
// arguments are a folder, how many entries, and how many changes.
func applyRole(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("want a folder and two numbers")
	}
	dir := args[0]
	entries, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	changes, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	k, err := dataplane.New(dataplane.Config{StateDir: dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	var plans [2]balancer.Plan
	for i, w := range [2][2]int{{2, 1}, {1, 3}} {
		if plans[i], err = plan(w[0], w[1]); err != nil {
			return err
		}
	}
	var a applied
	if a.First, err = timed(ctx, k, plans[0]); err != nil {
		return err
	}
	if err := k.Activate(ctx, true, false); err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer h.Close()
	for i := range entries {
		if err := h.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, ballast(i)); err != nil {
			return fmt.Errorf("add entry %d: %w", i, err)
		}
	}
	if a.Entries, err = counted(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ready"), nil, 0o644); err != nil {
		return err
	}
	if err := netlab.WaitFor("the word to go", time.Minute, func() bool { return exists(filepath.Join(dir, "go")) || ctx.Err() != nil }); err != nil {
		return err
	}
	for i := range changes {
		time.Sleep(100 * time.Millisecond)
		begin := netlab.Now()
		took, err := timed(ctx, k, plans[(i+1)%2])
		if err != nil {
			return err
		}
		a.Begin, a.Took = append(a.Begin, begin), append(a.Took, took)
	}
	time.Sleep(100 * time.Millisecond)
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "applied"), text, 0o644)
}

func timed(ctx context.Context, k *dataplane.Kernel, p balancer.Plan) (time.Duration, error) {
	begin := netlab.Now()
	err := k.Apply(ctx, p)
	return netlab.Now().Sub(begin), err
}

// plan is what the standard file with these weights means for a lone master.
func plan(cable, dsl int) (balancer.Plan, error) {
	prefixes := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	return balancer.Build(balancer.Config{
		Lans: []balancer.Lan{{Name: "office", Device: "lan0", Virtual: prefixes("192.168.77.1/24")}},
		Uplinks: []balancer.Uplink{
			{Name: "cable", ID: 1, Device: "wan1", Gateway: netip.MustParseAddr("203.0.113.1"), Virtual: prefixes("203.0.113.10/25"), Weight: cable, Tier: 1},
			{Name: "dsl", ID: 2, Device: "wan2", Gateway: netip.MustParseAddr("203.0.113.129"), Virtual: prefixes("203.0.113.140/25"), Weight: dsl, Tier: 1},
		},
		Policies: []balancer.Policy{{Name: "default"}},
		MarkMask: 0x3f00, TableBase: 7000, RulePriority: 7000,
		Nodes: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}, balancer.Input{
		Usable:   map[string]bool{"cable": true, "dsl": true},
		Verdicts: map[string]balancer.Verdict{"cable": balancer.Up, "dsl": balancer.Up},
		Active:   true,
		Holding:  true,
		OwnLan:   map[string][]netip.Prefix{"office": prefixes("192.168.77.2/24")},
	})
}

// ballast is an established TCP flow of the LAN: its number makes the ports.
func ballast(i int) *netlink.ConntrackFlow {
	src, dst := net.IP{10, 99, byte(i >> 24), byte(i >> 16)}, net.IP{198, 51, 100, 9} // four bytes: it sends them as they are
	port, far := uint16(i), uint16(443)
	return &netlink.ConntrackFlow{
		FamilyType: unix.AF_INET,
		Forward:    netlink.IPTuple{SrcIP: src, DstIP: dst, SrcPort: port, DstPort: far, Protocol: unix.IPPROTO_TCP},
		Reverse:    netlink.IPTuple{SrcIP: dst, DstIP: src, SrcPort: far, DstPort: port, Protocol: unix.IPPROTO_TCP},
		Mark:       1 << 8,
		TimeOut:    3600,
		ProtoInfo:  &netlink.ProtoInfoTCP{State: nfEstablished},
	}
}

const nfEstablished = 3 // TCP_CONNTRACK_ESTABLISHED

// counted is how many entries the kernel has in this namespace.
func counted() (int, error) {
	text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	if err != nil {
		return 0, err
	}
	var n int
	_, err = fmt.Sscan(string(text), &n)
	return n, err
}
