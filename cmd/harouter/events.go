package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"harouter/ha"
	"harouter/ha/control"
	"harouter/ha/events"
)

// eventsArgs travel over the control socket. Each answer is a list of
// control.Event, the first one that of the past.
type eventsArgs struct {
	Last   int  `json:"last"` // 0 all
	Follow bool `json:"follow,omitempty"`
}

func newEvents(c *common) *cobra.Command {
	args := eventsArgs{Last: 100}
	var asJSON bool
	cmd := &cobra.Command{
		Use: "events", Short: "what happened when, on all nodes", Args: noArgs,
		Long: "Prints what happened in the cluster, oldest first; every node records it and tells the others.\n" +
			"Where no daemon runs it prints what the one of this node had recorded.",
		Example: "  harouter events\n  harouter events --follow\n  harouter events --json -n 0 | jq 'select(.kind == \"role\")'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if args.Last < 0 {
				return wrongInput{fmt.Errorf("-n %d: the number of events is 0 for all, or more", args.Last)}
			}
			return showEvents(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), c, args, asJSON)
		},
	}
	cmd.Flags().IntVarP(&args.Last, "number", "n", args.Last, "print the last `N` events, 0 all")
	cmd.Flags().BoolVar(&args.Follow, "follow", false, "go on with what happens")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func showEvents(ctx context.Context, out, notes io.Writer, c *common, args eventsArgs, asJSON bool) error {
	print := textPrinter(out)
	if asJSON {
		print = jsonPrinter(out)
	}
	client, err := control.Dial(c.runDir)
	if errors.Is(err, control.ErrNoDaemon) || errors.Is(err, fs.ErrPermission) {
		return showRecorded(notes, c, args, print, err)
	}
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Do(ctx, "events", args, func(data json.RawMessage) error {
		var some []control.Event
		if err := json.Unmarshal(data, &some); err != nil {
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		return print(some)
	})
}

// showRecorded shows what is on disk where the daemon does not answer, and why.
func showRecorded(notes io.Writer, c *common, args eventsArgs, print func([]control.Event) error, why error) error {
	dir := eventsDir(c)
	found, err := events.Read(dir, args.Last)
	if err != nil {
		return fmt.Errorf("%w; what was recorded before cannot be shown either: %w", why, err)
	}
	if len(found) == 0 {
		return fmt.Errorf("%w; nothing was recorded before in %s either", why, dir)
	}
	if !args.Follow {
		fmt.Fprintf(notes, "harouter: %v. This is what was recorded in %s:\n", why, dir)
	}
	if err := print(shown(found)); err != nil {
		return err
	}
	if args.Follow {
		return fmt.Errorf("%w. The above was recorded in %s, there is nothing to follow", why, dir)
	}
	return nil
}

func textPrinter(out io.Writer) func([]control.Event) error {
	table := control.NewEvents(out, isTerminal(out) && os.Getenv("NO_COLOR") == "")
	return func(some []control.Event) error { return table.Add(some, time.Now()) }
}

func jsonPrinter(out io.Writer) func([]control.Event) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return func(some []control.Event) error {
		for _, e := range some {
			if err := enc.Encode(e); err != nil {
				return fmt.Errorf("write the events: %w", err)
			}
		}
		return nil
	}
}

func eventsDir(c *common) string { return filepath.Join(c.stateDir, "events") }

// shown is how events are printed, whoever prints them.
func shown(some []events.Event) []control.Event {
	out := make([]control.Event, 0, len(some))
	for _, e := range some {
		out = append(out, control.Event{Time: e.Time, Node: e.Node, Kind: e.Kind, Subject: e.Subject, From: e.From, To: e.To, Reason: e.Reason})
	}
	return out
}

// buildEvents makes the event log, and its exchange with the other nodes.
func (d *daemon) buildEvents() {
	log := d.log.part("events")
	d.events = events.Open(events.Config{Dir: eventsDir(d.c), Node: d.settings().node, Log: log, Trouble: func(err error) { d.disk.tell("events", err) }})
	send := func(ctx context.Context, node string, payload []byte) error {
		return d.gossip.Send(ctx, node, events.Kind, payload)
	}
	d.exchange = events.NewExchange(d.events, send, func() []string { return d.gossip.Members() })
}

// record takes what the machine decided into the event log.
func (d *daemon) record(r ha.Record) {
	d.follow.note(r, d.settings().node)
	d.events.Append(events.Event{Kind: r.Kind, Subject: r.Subject, From: r.From, To: r.To, Reason: r.Reason})
}

// sendEvents answers `harouter events`.
func (d *daemon) sendEvents(ctx context.Context, args eventsArgs, reply func(any) error) error {
	if !args.Follow {
		return reply(shown(d.events.Last(args.Last)))
	}
	err := d.events.Follow(ctx, args.Last, func(some []events.Event) error { return reply(shown(some)) })
	if ctx.Err() != nil { // the reader knows when he has gone
		return errors.New("the daemon is ending, no more events come: ask again when it runs")
	}
	return err
}
