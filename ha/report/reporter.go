package report

import (
	"context"
	"log/slog"
	"os/exec"
	"sync"
	"time"
)

// Config says who is told.
type Config struct {
	Cluster, Node string
	Mail          Mail    // none: To is empty
	Webhook       Webhook // none: URL is empty
}

// Ports are what a Reporter needs.
type Ports struct {
	// Master names the node that is master now, "" if none of the nodes is.
	Master func(context.Context) string
	// Command prepares a program as child.Command does.
	Command func(ctx context.Context, program string, args ...string) *exec.Cmd
	Log     *slog.Logger
}

const (
	mailGap    = time.Minute
	webhookGap = 2 * time.Second
	// queued is how many events wait to be gathered.
	queued = 256
)

// Reporter tells people what happens.
type Reporter struct {
	ports         Ports
	in            chan Event
	mail, webhook *outbox

	mu   sync.Mutex
	cfg  Config
	lost int
}

// New returns a Reporter that Run starts.
func New(cfg Config, ports Ports) *Reporter {
	r := &Reporter{
		ports: ports, in: make(chan Event, queued),
		mail: newOutbox("mail", mailGap, ports.Log), webhook: newOutbox("webhook", webhookGap, ports.Log),
	}
	r.Configure(cfg)
	return r
}

// Configure puts other settings in place. What waits is sent by the new ones.
func (r *Reporter) Configure(cfg Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cfg = cfg
	var mail, webhook sender
	if len(cfg.Mail.To) > 0 {
		mail = func(ctx context.Context, b batch) error {
			return cfg.Mail.send(ctx, r.ports.Command, b, cfg.Cluster, time.Now())
		}
	}
	if cfg.Webhook.URL != "" {
		webhook = func(ctx context.Context, b batch) error { return cfg.Webhook.send(ctx, b, cfg.Cluster, cfg.Node) }
	}
	r.mail.configure(mail)
	r.webhook.configure(webhook)
}

// Tell takes an event. It never waits.
func (r *Reporter) Tell(e Event) {
	select {
	case r.in <- e:
	default:
		r.mu.Lock()
		r.lost++
		r.mu.Unlock()
	}
}

// String names the task.
func (r *Reporter) String() string { return "report" }

// Run tells people until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.mail.run(ctx) })
	wg.Go(func() { r.webhook.run(ctx) })
	r.mu.Lock()
	c := chooser{node: r.cfg.Node}
	r.mu.Unlock()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-r.in:
			if len(c.events) == 0 {
				timer.Reset(gatherFor)
			}
			c.add(e, time.Now())
		case <-timer.C:
			if len(c.events) == 0 {
				continue
			}
			send, lost := c.take(r.ports.Master(ctx))
			r.mu.Lock()
			if len(send) > 0 {
				lost, r.lost = lost+r.lost, 0
			}
			r.mu.Unlock()
			var mail []Event
			for _, e := range send {
				if worthMail(e) {
					mail = append(mail, e)
				}
			}
			if len(mail) > 0 {
				r.mail.put(mail, lost)
			}
			r.webhook.put(send, lost)
		}
	}
}
