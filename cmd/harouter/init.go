package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"harouter/ha/config"
	"harouter/ha/survey"
)

// initArgs are what a person says about the machine; the rest is seen.
type initArgs struct {
	cluster, address string
	priority         uint8
	lans, uplinks    []string
	force, newKey    bool
	yes              bool       // ask nothing
	person           *questions // nil: nobody to ask
}

const (
	lanForm    = "NAME=DEVICE[,ADDRESS/LENGTH]"
	uplinkForm = "NAME=DEVICE[,gateway=IP][,address=ADDRESS/LENGTH][,weight=N]"
)

func newInit(c *common) *cobra.Command {
	var a initArgs
	cmd := &cobra.Command{
		Use: "init", Short: "look at this machine, write a starter file and a new key", Args: noArgs,
		Long: "Looks at this machine's devices, addresses and default routes, takes those with a default route or a\n" +
			"public address for uplinks and those with a private address for lans (a /30 or /31: the cable to the\n" +
			"other router), and writes a configuration file with this one node and comments, and a new cluster key. On a terminal it asks for what it cannot see,\n" +
			"such as the address that the hosts have as gateway; --yes, or flags, answer that beforehand. What it\n" +
			"sees wrongly is said with flags: --lan replaces all lans that it would choose, --uplink all uplinks.\n\n" +
			"Other routers do not run init: they join, see harouter token.",
		Example: "  harouter init\n" +
			"  harouter init --cluster home --address 192.0.2.1 --lan office=lan0,192.168.77.1/24 \\\n" +
			"    --uplink cable=wan1,gateway=203.0.113.1,address=203.0.113.10/25,weight=2 --uplink dsl=wan2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("priority") && (a.priority == 0 || a.priority == 255) {
				return wrongInput{fmt.Errorf("--priority %d is out of range; allowed: 1 to 254", a.priority)}
			}
			if a.yes || !fromTerminal(os.Stdin) {
				return initialize(cmd.OutOrStdout(), c, a, flagsAgain(cmd, c))
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			tty, err := openTerminal(ctx)
			if err != nil {
				return fmt.Errorf("%w; --yes asks nothing", err)
			}
			defer tty.Close()
			a.person = &questions{bufio.NewReader(tty), tty}
			err = initialize(cmd.OutOrStdout(), c, a, flagsAgain(cmd, c))
			if errors.Is(err, context.Canceled) || errors.Is(err, os.ErrDeadlineExceeded) {
				return errors.New("init was interrupted; nothing is written")
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&a.cluster, "cluster", "home", "`NAME` of the cluster")
	f.StringVar(&a.address, "address", "", "`IP` where other routers will reach this one (default that on a direct cable, else on the first lan)")
	f.Uint8Var(&a.priority, "priority", config.StarterPriority, "priority `N`, 1 to 254: the highest of the routers that work is master")
	f.StringArrayVar(&a.lans, "lan", nil, "a lan, as `"+lanForm+"`: its virtual address; repeatable")
	f.StringArrayVar(&a.uplinks, "uplink", nil, "an ISP line, as `"+uplinkForm+"`: address is a virtual one; repeatable")
	f.BoolVarP(&a.yes, "yes", "y", false, "ask nothing: take what is seen and suggested")
	f.BoolVar(&a.force, "force", false, "replace a configuration file that is there; a key that is there stays")
	f.BoolVar(&a.newKey, "new-key", false, "with --force: replace the key too; other nodes are then locked out until they have it")
	return cmd
}

// flagsAgain are the common flags that were given, for the commands that are
// proposed.
func flagsAgain(cmd *cobra.Command, c *common) string {
	var b strings.Builder
	for _, f := range []struct{ name, value string }{{"config", c.config}, {"key-file", c.keyFile}, {"node", c.node}} {
		if cmd.Flags().Changed(f.name) {
			fmt.Fprintf(&b, " --%s %s", f.name, f.value)
		}
	}
	return b.String()
}

func initialize(out io.Writer, c *common, a initArgs, flags string) error {
	if filepath.Clean(c.config) == filepath.Clean(c.keyFile) {
		return wrongInput{fmt.Errorf("--config and --key-file are both %s; allowed: two files", c.config)}
	}
	haveKey, err := a.refuse(c)
	if err != nil {
		return err
	}
	devices, err := survey.Look()
	if err != nil {
		return err
	}
	m, notes, err := a.machine(c.node, devices)
	if err != nil {
		return wrongInput{err}
	}
	text, err := config.Starter(m)
	if err != nil {
		return wrongInput{fmt.Errorf("write a starter file for this machine: %w", err)}
	}
	file, problems := config.Parse(c.config, text)
	if err := problems.Err(); err != nil {
		return err
	}
	docs := []document{{c.config, text, 0o644}}
	if !haveKey || a.newKey {
		docs = append(docs, document{c.keyFile, config.NewKey().Encode(), 0o600})
	}
	if err := place(docs...); err != nil {
		return err
	}
	p := picture{c: c, flags: flags, devices: devices, machine: m, notes: notes, file: file, keyKept: len(docs) == 1, asked: a.person != nil}
	_, err = io.WriteString(out, p.text())
	return err
}

// refuse tells whether a key is there that stays, and is an error where something
// is in the way.
func (a initArgs) refuse(c *common) (haveKey bool, err error) {
	for _, path := range []string{c.config, c.keyFile} {
		switch _, err := os.Lstat(path); {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return false, fmt.Errorf("look for %s: %w", path, err)
		case !a.force:
			return false, fmt.Errorf("%s is there already, so nothing was written; --force replaces a configuration file, and keeps the key", path)
		}
		haveKey = haveKey || path == c.keyFile
	}
	if haveKey && !a.newKey {
		if _, err := config.LoadKey(c.keyFile); err != nil {
			return true, fmt.Errorf("keep the key that is there: %w; --force --new-key replaces it", err)
		}
	}
	return haveKey, nil
}

// machine decides what the starter file says: what the flags say, else what was
// seen. The notes are for the person.
func (a initArgs) machine(node string, devices []survey.Device) (m config.Machine, notes []string, err error) {
	m = config.Machine{Cluster: a.cluster, Node: node, Priority: a.priority}
	seen := map[string]survey.Device{}
	for _, d := range devices {
		seen[d.Name] = d
	}
	said := map[string]bool{} // devices that the flags name
	var errs []error
	for _, flag := range a.lans {
		l, err := parseLan(flag)
		errs = append(errs, err)
		said[l.Device], l.Own = true, seen[l.Device].Address
		m.Lans = append(m.Lans, l)
	}
	for _, flag := range a.uplinks {
		u, err := parseUplink(flag)
		errs = append(errs, err)
		d := seen[u.Device]
		said[u.Device], u.Own = true, d.Address
		if !u.Gateway.IsValid() && !d.Dynamic {
			u.Gateway = d.Gateway
		}
		m.Uplinks = append(m.Uplinks, u)
	}
	if err := errors.Join(errs...); err != nil {
		return m, nil, err
	}
	for _, d := range devices {
		switch {
		case said[d.Name], a.forCable(d, devices):
		case d.Use == survey.Lan && len(a.lans) == 0:
			m.Lans = append(m.Lans, config.MachineLan{Name: numbered("lan", len(m.Lans)), Device: d.Name, Own: d.Address})
		case d.Use == survey.Wan && len(a.uplinks) == 0:
			u := config.MachineUplink{Name: numbered("isp", len(m.Uplinks)), Device: d.Name, Own: d.Address}
			if !d.Dynamic {
				u.Gateway = d.Gateway
			}
			m.Uplinks = append(m.Uplinks, u)
		}
	}
	if a.person != nil {
		if a.address, err = a.person.complete(a, &m, devices); err != nil {
			return m, nil, err
		}
	} else if err := a.enough(m, devices); err != nil {
		return m, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(said)) {
		if _, ok := seen[name]; !ok {
			notes = append(notes, fmt.Sprintf("this machine has no device %s now; the daemon will treat it as a link that is down", name))
		}
	}
	m.Address, notes, err = a.own(m, devices, notes)
	return m, notes, err
}

// forCable tells whether a device without a default route has the address that
// --address names, and another one is there for what it seems to be for: then it
// is the cable to the other routers.
func (a initArgs) forCable(d survey.Device, devices []survey.Device) bool {
	ip, err := netip.ParseAddr(a.address)
	return err == nil && d.Address.Addr() == ip && !d.Gateway.IsValid() &&
		slices.ContainsFunc(devices, func(other survey.Device) bool { return other.Use == d.Use && other.Name != d.Name })
}

func numbered(word string, have int) string { return word + strconv.Itoa(have+1) }

// enough refuses a router without lan or uplink, unless the flags name the other.
func (a initArgs) enough(m config.Machine, devices []survey.Device) error {
	var missing []string
	if len(m.Lans) == 0 && len(a.uplinks) == 0 {
		missing = append(missing, "no lan (a private address, no default route): say which it is with --lan "+lanForm+
			", or name the uplinks with --uplink if there is to be no lan")
	}
	if len(m.Uplinks) == 0 && len(a.lans) == 0 {
		missing = append(missing, "no uplink (a default route, or a public address): say which it is with --uplink "+uplinkForm+
			", or name the lans with --lan if there is to be no uplink")
	}
	if len(missing) == 0 {
		return nil
	}
	var saw []string
	for _, d := range devices {
		saw = append(saw, fmt.Sprintf("%s (%s)", d.Name, d.Why))
	}
	if len(saw) == 0 {
		saw = []string{"none"}
	}
	return fmt.Errorf("this machine shows %s. Its devices: %s", strings.Join(missing, "; and "), strings.Join(saw, ", "))
}

// own is the address where other routers will reach this one.
func (a initArgs) own(m config.Machine, devices []survey.Device, notes []string) (netip.Addr, []string, error) {
	if a.address == "" {
		if seen, ok := meeting(m, devices); ok {
			return seen, notes, nil
		}
		return netip.Addr{}, nil, errors.New("no lan or uplink has an address of this router's own where others could reach it; give one with --address IP")
	}
	ip, err := netip.ParseAddr(a.address)
	if err != nil {
		return ip, nil, fmt.Errorf("--address %q is no IP address; allowed: one such as 192.0.2.1", a.address)
	}
	for _, d := range devices {
		if d.Address.Addr() == ip || slices.Contains(d.Further, ip) {
			return ip, notes, nil
		}
	}
	return ip, append(notes, fmt.Sprintf("no device has the address %s now; it must be there when harouter runs", ip)), nil
}

// meeting is where other routers seem to reach this one best: on a direct cable,
// else on a lan or uplink.
func meeting(m config.Machine, devices []survey.Device) (netip.Addr, bool) {
	for _, d := range devices {
		if d.Use == survey.Cable && !usedBy(m, d.Name) {
			return d.Address.Addr(), true
		}
	}
	return firstOwn(m)
}

// firstOwn is the first address on a lan or uplink that is to stay this router's
// own.
func firstOwn(m config.Machine) (netip.Addr, bool) {
	virtual := map[netip.Addr]bool{}
	var candidates []netip.Prefix
	for _, l := range m.Lans {
		virtual[l.Virtual.Addr()] = true
		candidates = append(candidates, l.Own)
	}
	for _, u := range m.Uplinks {
		virtual[u.Virtual.Addr()] = true
		candidates = append(candidates, u.Own)
	}
	for _, p := range candidates {
		if p.IsValid() && !virtual[p.Addr()] {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}

func parseLan(flag string) (l config.MachineLan, err error) {
	wrong := func() error {
		return fmt.Errorf("--lan %q is not understood; allowed: %s, such as office=lan0,192.168.77.1/24", flag, lanForm)
	}
	parts := strings.Split(flag, ",")
	var ok bool
	if l.Name, l.Device, ok = strings.Cut(parts[0], "="); !ok || l.Name == "" || l.Device == "" || len(parts) > 2 {
		return l, wrong()
	}
	if len(parts) == 2 {
		if l.Virtual, err = netip.ParsePrefix(parts[1]); err != nil {
			return l, wrong()
		}
	}
	return l, nil
}

func parseUplink(flag string) (u config.MachineUplink, err error) {
	wrong := func() error {
		return fmt.Errorf("--uplink %q is not understood; allowed: %s, such as cable=wan1,gateway=203.0.113.1", flag, uplinkForm)
	}
	parts := strings.Split(flag, ",")
	var ok bool
	if u.Name, u.Device, ok = strings.Cut(parts[0], "="); !ok || u.Name == "" || u.Device == "" {
		return u, wrong()
	}
	first := map[string]bool{}
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "gateway":
			u.Gateway, err = netip.ParseAddr(value)
		case "address":
			u.Virtual, err = netip.ParsePrefix(value)
		case "weight":
			u.Weight, err = strconv.Atoi(value)
			if err == nil && (u.Weight < 1 || u.Weight > 255) {
				return u, fmt.Errorf("--uplink %q: weight %d is out of range; allowed: 1 to 255", flag, u.Weight)
			}
		default:
			return u, wrong()
		}
		if err != nil || first[key] {
			return u, wrong()
		}
		first[key] = true
	}
	return u, nil
}

// picture is what was seen and decided.
type picture struct {
	c       *common
	flags   string
	devices []survey.Device
	machine config.Machine
	notes   []string
	file    *config.Config
	keyKept bool
	asked   bool
}

// deviceTable shows the devices, each with its use.
func deviceTable(devices []survey.Device, use func(survey.Device) string) string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, d := range devices {
		address := "-"
		if d.Address.IsValid() {
			address = d.Address.String()
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", d.Name, address, use(d), d.Why)
	}
	table.Flush()
	return b.String()
}

// text tells it to a person, with what to do next.
func (p *picture) text() string {
	var b strings.Builder
	if p.asked { // then the person has seen it
		b.WriteString("\n")
	} else {
		fmt.Fprintf(&b, "What this machine has:\n%s\n", deviceTable(p.devices, func(d survey.Device) string { return use(p.file, d) }))
	}
	n := p.file.Nodes[0]
	fmt.Fprintf(&b, "What the file says:\n  cluster %s, node %s at %s, priority %d\n", p.file.Cluster, n.Name, n.Addresses[0], n.Priority)
	for i, l := range p.file.Lans {
		hint := ""
		if !p.machine.Lans[i].Virtual.IsValid() {
			hint = " (a suggestion: the file says more)"
		}
		fmt.Fprintf(&b, "  lan %s on %s, virtual address %s%s\n", l.Name, l.Device, l.Virtual[0], hint)
	}
	for _, u := range p.file.Uplinks {
		fmt.Fprintf(&b, "  uplink %s on %s, gateway %s, weight %d", u.Name, u.Device, u.Gateway, u.Weight)
		for _, v := range u.Virtual {
			fmt.Fprintf(&b, ", virtual address %s", v)
		}
		b.WriteString("\n")
	}
	for _, note := range p.notes {
		fmt.Fprintf(&b, "Note: %s.\n", note)
	}
	fmt.Fprintf(&b, "\nWritten: %s\n", p.c.config)
	if p.keyKept {
		fmt.Fprintf(&b, "Kept:    %s, the key that was there\n", p.c.keyFile)
	} else {
		fmt.Fprintf(&b, "Written: %s, a new key: keep it secret\n", p.c.keyFile)
	}
	fmt.Fprintf(&b, "\nNext:\n  read the file, and change what is not so\n  harouter check%[1]s\n  harouter run%[1]s\n", p.flags)
	fmt.Fprintf(&b, "\nFor a second router, run harouter token here while the daemon runs: it prints the line for that one,\n"+
		"  harouter join %s --token TICKET\nwith the ticket that is still missing in it.\n", netip.AddrPortFrom(n.Addresses[0], p.file.Ports.Sync))
	return b.String()
}

// use is what the file made of a device.
func use(file *config.Config, d survey.Device) string {
	for _, l := range file.Lans {
		if l.Device == d.Name {
			return "lan " + l.Name
		}
	}
	for _, u := range file.Uplinks {
		if u.Device == d.Name {
			return "uplink " + u.Name
		}
	}
	return survey.None.String()
}
