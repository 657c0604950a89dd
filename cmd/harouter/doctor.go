package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"harouter/ha"
	"harouter/ha/config"
	"harouter/ha/control"
	"harouter/ha/doctor"
	"harouter/vrrp"
	"harouter/vrrp/wire"
)

func newDoctor(c *common) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "name what would break harouter on this machine, and the mend for each", Args: noArgs,
		Long: "Looks at the machine, the configuration and, where it runs, the daemon, and tries what it needs of the\n" +
			"kernel in a network namespace of its own. Nothing is changed. It takes some seconds, since it listens\n" +
			"for other VRRP speakers.\n\n" +
			"Exit status: 0 no faults (there may be warnings), 1 at least one fault.",
		Example: "  harouter doctor\n  harouter doctor --json | jq '.findings[].mend'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := examine(cmd.Context(), c)
			tell := func() error { return r.Write(cmd.OutOrStdout()) }
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				tell = func() error { return e.Encode(r) }
			}
			err := tell()
			if err == nil && !r.Healthy {
				err = silent{1}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// examine takes all looks. What one of them finds does not hinder the others,
// but without a configuration some have nothing to look at.
func examine(ctx context.Context, c *common) doctor.Report {
	var r doctor.Report
	s, found := examineFiles(c)
	r.Add("configuration", append(found, examineSnippets(c.config)...))
	r.Add("rights", examineRights(s))
	r.Add("kernel", examineKernel(ctx, s))
	var site doctor.Site
	if s != nil {
		site = s.site()
	}
	var m doctor.Machine
	r.Add("programs", m.Programs(site))
	r.Add("sysctls", m.Sysctls())
	r.Add("clock", examineClock())
	if s != nil {
		r.Add("devices", m.Devices(site))
		r.Add("bridges", m.Bridges(site))
		r.Add("paths", examinePaths(ctx, s))
		status, running := askStatus(ctx, c)
		if running {
			r.Add("daemon", examineStatus(status))
		} else {
			r.Add("speakers", examineSpeakers(ctx, s))
		}
	}
	r.Close()
	return r
}

// site is what the machine's looks have to know of the file.
func (s *settings) site() doctor.Site {
	out := doctor.Site{Lans: map[string]string{}, Uplinks: map[string]string{}, Ports: []int{int(s.file.Ports.Gossip), int(s.file.Ports.Sync)}}
	six := func(device string, virtual []netip.Prefix) {
		if slices.ContainsFunc(virtual, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
			out.Six = append(out.Six, device)
		}
	}
	for _, l := range s.file.Lans {
		out.Lans[l.Name] = s.file.Device(s.node, l.Name)
		six(out.Lans[l.Name], l.Virtual)
	}
	for _, u := range s.file.Uplinks {
		out.Uplinks[u.Name] = s.file.Device(s.node, u.Name)
		six(out.Uplinks[u.Name], u.Virtual)
	}
	return out
}

// examineFiles reads configuration and key; the settings are nil without.
func examineFiles(c *common) (*settings, []doctor.Finding) {
	var out []doctor.Finding
	fault := func(subject, text, mend string) {
		out = append(out, doctor.Finding{Level: doctor.Fault, Subject: subject, Text: text, Mend: mend})
	}
	if _, err := os.Stat(c.config); errors.Is(err, fs.ErrNotExist) {
		return nil, []doctor.Finding{{Level: doctor.Warning, Subject: c.config, Text: "there is no configuration yet, so only the machine was looked at",
			Mend: "harouter init on the first router, the line that harouter token prints on the others"}}
	}
	text, problems := config.Read(c.config)
	var file *config.Config
	if problems == nil {
		file, problems = config.Parse(c.config, text)
	}
	for _, p := range problems {
		level := doctor.Warning
		if p.Severity == config.Error {
			level = doctor.Fault
		}
		subject := p.File
		if p.Line > 0 {
			subject = fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
		}
		out = append(out, doctor.Finding{Level: level, Subject: subject, Text: p.Text, Mend: "change the file, then harouter check"})
	}
	if _, err := config.LoadKey(c.keyFile); err != nil {
		fault(c.keyFile, err.Error(), "as the text says, or harouter join --force here")
	}
	if file == nil {
		return nil, out
	}
	if err := hasNode(file, c.config, c.node); err != nil {
		fault(c.config, err.Error(), "give this host the name of its node, or use --node, also in the service's HAROUTER_FLAGS")
		return nil, out
	}
	return &settings{file: file, node: c.node, text: text}, out
}

func examineRights(s *settings) []doctor.Finding {
	if err := checkRights("doctor"); err != nil {
		return []doctor.Finding{{Level: doctor.Fault, Subject: "this process", Text: err.Error(), Mend: "run it as root: much could not be looked at"}}
	}
	var out []doctor.Finding
	if s == nil {
		s = &settings{file: &config.Config{VRRP: config.VRRP{Advertise: 100 * time.Millisecond}}}
	}
	for _, l := range calm(s) {
		out = append(out, doctor.Finding{Level: doctor.Warning, Subject: "this process", Text: l, Mend: "let the service have CAP_SYS_NICE and CAP_IPC_LOCK and limits for real-time priority and locked memory, as the unit of the package does; else keep vrrp.advertise at 100ms or more"})
	}
	return out
}

// trialLimit is far more than the trial of the kernel takes.
const trialLimit = 20 * time.Second

func examineKernel(ctx context.Context, s *settings) []doctor.Finding {
	ctx, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()
	said, err := trial(ctx)
	if err != nil {
		return []doctor.Finding{{Level: doctor.Warning, Subject: "kernel", Text: err.Error(), Mend: "run it as root, outside of containers that forbid namespaces"}}
	}
	macs := s != nil && len(s.macDevices()) > 0
	var out []doctor.Finding
	for _, l := range said.Lacks {
		out = append(out, l.finding(macs))
	}
	if said.Queue != "" && s != nil && slices.ContainsFunc(s.file.Policies, func(p config.Policy) bool { return p.Race == config.RaceHold }) {
		out = append(out, doctor.Finding{Level: doctor.Note, Subject: "race: hold", Text: "first packets wait by " + said.Queue})
	}
	return out
}

func (l lack) finding(macs bool) doctor.Finding {
	f := doctor.Finding{Level: doctor.Fault, Subject: l.Option, Text: "this kernel has not what is needed for " + l.For}
	f.Mend = fmt.Sprintf("load the module (modprobe), or use a kernel with CONFIG_%s", l.Option)
	if strings.Contains(l.Option, " ") {
		f.Mend = "give this process the rights (root, or CAP_NET_RAW and CAP_NET_ADMIN), and look whether a container forbids it"
	}
	if l.Error != "" {
		f.Text += ": " + l.Error
	}
	if l.Need == useful || l.Need == neededMAC && !macs {
		f.Level = doctor.Warning
	}
	return f
}

// examineClock: harouter does not depend on the wall clock, people who read its
// events do.
func examineClock() []doctor.Finding {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil || state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0 {
		return nil
	}
	return []doctor.Finding{{Level: doctor.Warning, Subject: "clock", Text: "nothing sets this machine's clock, so the times of events of two routers cannot be compared",
		Mend: "install chrony or systemd-timesyncd"}}
}

// dialLimit is how long a peer may take to answer.
const dialLimit = 2 * time.Second

// examinePaths looks at the ways between the routers.
func examinePaths(ctx context.Context, s *settings) []doctor.Finding {
	var out []doctor.Finding
	own := map[netip.Addr]string{} // device by address
	devices, err := net.Interfaces()
	if err != nil {
		return []doctor.Finding{{Level: doctor.Warning, Subject: "devices", Text: err.Error(), Mend: "run it as root"}}
	}
	for _, d := range devices {
		addrs, _ := d.Addrs() // one that went since has none
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				own[p.Addr()] = d.Name
			}
		}
	}
	lans := map[string]string{} // lan by device
	for name, d := range s.site().Lans {
		lans[d] = name
	}
	shared := 0
	for _, a := range s.self().Addresses {
		switch d, here := own[a]; {
		case !here:
			out = append(out, doctor.Finding{Level: doctor.Fault, Subject: a.String(), Text: "this router does not have the address that the file gives to it", Mend: fmt.Sprintf("put it on a device for good, or change nodes.%s", s.node)})
		case lans[d] != "":
			shared++
		}
	}
	if len(s.file.Nodes) > 1 && shared == len(s.self().Addresses) {
		out = append(out, doctor.Finding{Level: doctor.Warning, Subject: "nodes." + s.node, Text: "the only path to the other routers lies on a lan: when that fails, adverts and gossip fail together",
			Mend: "a direct cable between the routers, its address first under nodes.NAME.addresses"})
	}
	peers := s.peers()
	for _, name := range slices.Sorted(maps.Keys(peers)) {
		for _, a := range peers[name] {
			if _, here := own[a]; here {
				out = append(out, doctor.Finding{Level: doctor.Fault, Subject: a.String(), Text: fmt.Sprintf("this router has the address of node %s", name), Mend: "give each router its own, or run this one with --node " + name})
				continue
			}
			if f, ok := examinePeer(ctx, name, netip.AddrPortFrom(a, s.file.Ports.Sync)); !ok {
				out = append(out, f)
			}
		}
	}
	return out
}

func examinePeer(ctx context.Context, name string, at netip.AddrPort) (doctor.Finding, bool) {
	d := net.Dialer{Timeout: dialLimit}
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err == nil {
		_ = conn.Close()
		return doctor.Finding{}, true
	}
	f := doctor.Finding{Level: doctor.Warning, Subject: name, Text: fmt.Sprintf("%v answers that nobody listens there: no harouter runs on it", at), Mend: "start harouter on it; if it runs, a firewall rejects the port"}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		f.Level, f.Text = doctor.Fault, fmt.Sprintf("%v is not reached: %v", at, err)
		f.Mend = fmt.Sprintf("look at the cable, the addresses and firewalls between the routers (tcp port %d)", at.Port())
	}
	return f, false
}

// askStatus is the daemon's status; false where none runs.
func askStatus(ctx context.Context, c *common) (ha.Status, bool) {
	var s ha.Status
	raw, err := askOnce(ctx, c, askLimit, "status", nil)
	if err != nil {
		return s, !errors.Is(err, control.ErrNoDaemon)
	}
	return s, json.Unmarshal(raw, &s) == nil
}

// examineStatus tells the daemon's alarms.
func examineStatus(s ha.Status) []doctor.Finding {
	if s.Node == "" {
		return []doctor.Finding{{Level: doctor.Fault, Subject: "daemon", Text: "the daemon runs and does not answer", Mend: "look at its log; systemctl restart harouter"}}
	}
	var out []doctor.Finding
	for _, a := range s.Alarms {
		out = append(out, doctor.Finding{Level: doctor.Warning, Subject: strings.TrimSpace(string(a.Code) + " " + a.Subject), Text: a.Text, Mend: "as the text says; harouter status shows when it is over"})
	}
	return out
}

// speakersLimit is how long doctor listens: three adverts of routers that send one
// a second.
const speakersLimit = 3200 * time.Millisecond

// examineSpeakers listens for routers with our number that do not announce what
// ours would.
func examineSpeakers(ctx context.Context, s *settings) []doctor.Finding {
	ctx, cancel := context.WithTimeout(ctx, speakersLimit)
	defer cancel()
	vrids, virtual, known := map[string]uint8{}, map[string][]netip.Addr{}, map[netip.Addr]bool{}
	var devices []string
	for _, l := range s.file.Lans {
		d := s.file.Device(s.node, l.Name)
		devices = append(devices, d)
		vrids[d], virtual[d] = l.VRID, addresses(l.Virtual)
	}
	for _, a := range s.file.VRRP.Foreign {
		known[a] = true
	}
	for _, n := range s.file.Nodes {
		for _, a := range n.Addresses {
			known[a] = true
		}
	}
	var mu sync.Mutex
	heard := map[string]doctor.Finding{}
	err := wire.Listen(ctx, wire.Spots{Devices: devices, Local: s.self().Addresses[0]}, func(r wire.Received) {
		mu.Lock()
		defer mu.Unlock()
		if id, lan := vrids[r.Link]; !lan || r.Advert.VRID != id || known[r.Src] || ours(r.Advert, virtual[r.Link], r.Src.Is4()) {
			return
		}
		heard[r.Link+r.Src.String()] = doctor.Finding{Level: doctor.Fault, Subject: r.Link,
			Text: fmt.Sprintf("%v speaks VRRP with our number %d there, priority %d, for %v", r.Src, r.Advert.VRID, r.Advert.Priority, r.Advert.Addresses),
			Mend: "give that lan another vrid here on all nodes, or the other router another number; if it is to take part, name it under vrrp.foreign"}
	})
	mu.Lock()
	defer mu.Unlock()
	var out []doctor.Finding
	for _, k := range slices.Sorted(maps.Keys(heard)) {
		out = append(out, heard[k])
	}
	if err != nil && ctx.Err() == nil {
		out = append(out, doctor.Finding{Level: doctor.Warning, Subject: "VRRP", Text: "other speakers could not be listened for: " + err.Error(), Mend: "run it as root"})
	}
	return out
}

// ours tells whether an advert is of our cluster, as far as one can see: each
// family has adverts of its own.
func ours(a vrrp.Advert, virtual []netip.Addr, v4 bool) bool {
	n := 0
	for _, v := range virtual {
		if v.Is4() != v4 {
			continue
		}
		if n++; !slices.Contains(a.Addresses, v) {
			return false
		}
	}
	return len(a.Addresses) == n
}
