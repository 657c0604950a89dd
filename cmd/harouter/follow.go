package main

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"harouter/balancer"
	"harouter/balancer/snippets"
	"harouter/ha"
	"harouter/ha/child"
	"harouter/ha/events"
	"harouter/ha/hooks"
	"harouter/ha/report"
	"harouter/ha/services"
)

// followers are the parts that follow what the machine decides, after it is done:
// hooks, services, messages, the admin's own rules. Nothing here waits for any of them.
type followers struct {
	hooks    *hooks.Runner
	services *services.Keeper
	report   *report.Reporter
	snippets *snippets.Worker

	mu     sync.Mutex // the loop and the worker of the addresses both tell
	holds  bool       // the virtual addresses are there
	master bool
	reason string // why this node is master
}

// buildFollowers makes them.
func (d *daemon) buildFollowers(s *settings) {
	d.follow = &followers{
		hooks: hooks.New(s.hooks(d.c), hooks.Ports{
			Command: child.Command, Log: d.log.part("hooks"),
			Failed: func(script string, failed bool, text string) {
				d.loop.Post(ha.Condition{Code: ha.AlarmHookFailed, Subject: script, Text: text, On: failed})
			},
		}),
		services: services.New(s.file.Services, settleTime(s), services.Ports{
			Command: child.Command, Log: d.log.part("services"),
			Failed: func(service string, failed bool, text string) {
				d.loop.Post(ha.Condition{Code: ha.AlarmServiceFailed, Subject: service, Text: text, On: failed})
			},
		}),
		report: report.New(s.report(d.c), report.Ports{Master: d.master, Command: child.Command, Log: d.log.part("report")}),
		snippets: snippets.New(besideConfig(d.c.config, snippets.Directory), snippets.Ports{
			Command: child.Command, Ready: d.planned, Log: d.log.part("dataplane"),
			Begin: func() uint64 { return d.plane.BeginUser() },
			Keep:  func(begun uint64) (bool, error) { return d.plane.KeepUser(begun) },
			Failed: func(file string, failed bool, text string) {
				d.loop.Post(ha.Condition{Code: ha.AlarmHookFailed, Subject: file, Text: text, On: failed})
			},
		}),
	}
}

// master names the node that is master as far as this one knows, "" none of them:
// then each node tells for itself.
func (d *daemon) master(ctx context.Context) string {
	s, err := d.loop.Status(ctx)
	if err != nil || !slices.ContainsFunc(s.Nodes, func(n ha.NodeStatus) bool { return n.Name == s.VRRP.Master }) {
		return ""
	}
	return s.VRRP.Master
}

// report is who is told, and how.
func (s *settings) report(c *common) report.Config {
	m, w := s.file.Mail, s.file.Webhook
	out := report.Config{
		Cluster: s.file.Cluster, Node: s.node,
		Mail:    report.Mail{To: m.To, From: m.From, SMTP: m.SMTP, Username: m.Username, PasswordFile: besideConfig(c.config, m.PasswordFile)},
		Webhook: report.Webhook{URL: w.URL, Headers: w.Headers},
	}
	if out.Mail.From == "" {
		host, err := os.Hostname()
		if err != nil || host == "" {
			host = s.node
		}
		out.Mail.From = "harouter@" + host
	}
	return out
}

// news brings the events of all nodes to those who are to be told.
type news struct{ d *daemon }

func (n news) String() string { return "news" }

func (n news) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		past := true
		// It ends with ctx, and when this cannot keep up, which misses a few.
		_ = n.d.events.Follow(ctx, 1, func(some []events.Event) error {
			if past {
				past = false
				return nil
			}
			for _, e := range some {
				n.d.follow.report.Tell(report.Event{Time: e.Time, Node: e.Node, Kind: e.Kind, Subject: e.Subject, From: e.From, To: e.To, Reason: e.Reason})
			}
			return nil
		})
	}
	return nil
}

// settleTime is how long after the start a lone node may be no master yet: 3A +
// Skew + 2 s (DESIGN.md §4), and some for a busy machine.
func settleTime(s *settings) time.Duration { return 4*s.file.VRRP.Advertise + 4*time.Second }

// configure puts other settings in place.
func (f *followers) configure(d *daemon, s *settings) {
	f.hooks.Configure(s.hooks(d.c))
	f.services.Configure(s.file.Services)
	f.report.Configure(s.report(d.c))
}

// note takes what the machine decided.
func (f *followers) note(r ha.Record, node string) {
	switch r.Kind {
	case "uplink":
		var v balancer.Verdict
		if v.UnmarshalText([]byte(r.To)) == nil {
			f.hooks.Uplink(r.Subject, v, r.Reason)
		}
	case "role":
		if r.Subject != node || r.To == "" { // a remark, no change
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.master, f.reason = r.To == ha.RoleMaster.String(), r.Reason
		if f.master {
			f.serve()
			return
		}
		f.services.Serve(false)
		f.hooks.Role(r.To, r.Reason)
	}
}

// holding tells whether the virtual addresses are there.
func (f *followers) holding(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.holds = on; on {
		f.serve()
	}
}

// serve starts what belongs to a master, once it is one with its addresses.
func (f *followers) serve() {
	if f.master && f.holds {
		f.services.Serve(true)
		f.hooks.Role(ha.RoleMaster.String(), f.reason)
	}
}

// hooks is what scripts are told and where they are.
func (s *settings) hooks(c *common) hooks.Config {
	h := hooks.Config{
		Directory: besideConfig(c.config, s.file.Hooks.Directory), Timeout: s.file.Hooks.Timeout,
		Cluster: s.file.Cluster, Node: s.node, MailTo: s.file.Mail.To, Uplinks: map[string]hooks.Line{},
	}
	for _, u := range s.file.Uplinks {
		line := hooks.Line{Device: s.file.Device(s.node, u.Name)}
		if len(u.Probe.Targets) > 0 {
			line.Target = u.Probe.Targets[0].Address
		}
		h.Uplinks[u.Name] = line
	}
	return h
}

// besideConfig is where a path of the configuration leads.
func besideConfig(config, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(config), path)
}

// followed are the addresses, and who is told when they are there.
type followed struct {
	ha.Addresses
	*followers
}

func (a followed) Add(ctx context.Context) error {
	err := a.Addresses.Add(ctx)
	a.holding(true) // what could be added is there, the rest is tried again
	return err
}

func (a followed) Remove(ctx context.Context) error {
	a.holding(false)
	return a.Addresses.Remove(ctx)
}

// followedPlane tells when the kernel has another plan.
type followedPlane struct {
	ha.Plane
	*followers

	last *balancer.Plan // of the one goroutine that applies plans
}

func (p *followedPlane) Apply(ctx context.Context, plan balancer.Plan) error {
	err := p.Plane.Apply(ctx, plan)
	if err == nil && (p.last == nil || !reflect.DeepEqual(*p.last, plan)) {
		p.last = &plan
		p.hooks.Applied()
	}
	return err
}
