package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"harouter/ha"
	"harouter/ha/control"
)

func newStatus(c *common) *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use: "status", Short: "show the whole cluster at a glance, from either node", Args: noArgs,
		Example: "  harouter status\n  harouter status --watch\n  harouter status --json | jq .alarms",
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			for {
				if err := showStatus(cmd.Context(), out, c, asJSON, watch); err != nil {
					return err
				}
				if !watch {
					return nil
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(time.Second):
				}
			}
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with --watch one object a line")
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again each second")
	return cmd
}

func showStatus(ctx context.Context, out io.Writer, c *common, asJSON, watch bool) error {
	raw, err := askOnce(ctx, c, askLimit, "status", statusArgs{Watch: watch})
	if err != nil {
		return err
	}
	if asJSON {
		var b bytes.Buffer
		if watch {
			err = json.Compact(&b, raw)
		} else {
			err = json.Indent(&b, raw, "", "  ")
		}
		if err != nil {
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		_, err = fmt.Fprintln(out, b.String())
		return err
	}
	var s ha.Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	terminal := isTerminal(out)
	var b bytes.Buffer
	if watch && terminal {
		b.WriteString("\x1b[H\x1b[2J")
	}
	if err := control.Table(&b, s, terminal && os.Getenv("NO_COLOR") == "", time.Now()); err != nil {
		return err
	}
	if watch && !terminal {
		b.WriteByte('\n')
	}
	_, err = out.Write(b.Bytes())
	return err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// Limits of the daemon's answers: one that hangs must not make its user wait.
const (
	askLimit  = 3 * time.Second  // for what it knows
	workLimit = 10 * time.Second // for what it has to do first
)

// askOnce sends one command to the daemon on this node and returns its last
// answer, nil if it had none. One that does not come in time is a *hungError.
func askOnce(ctx context.Context, c *common, limit time.Duration, command string, args any) (json.RawMessage, error) {
	client, err := control.Dial(c.runDir)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	pid := client.Daemon()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var answer json.RawMessage
	err = client.Do(limited, command, args, func(data json.RawMessage) error {
		answer = bytes.Clone(data)
		return nil
	})
	if limited.Err() != nil && ctx.Err() == nil {
		return nil, &hungError{pid: pid, limit: limit}
	}
	return answer, err
}

// hungError tells of a daemon that listens and does not answer.
type hungError struct {
	pid   int
	limit time.Duration
}

func (e *hungError) Error() string {
	return fmt.Sprintf("the daemon (process %d) gave no answer within %v: it hangs, or this machine is overloaded; look at its log, and if need be end it with kill -9 %d", e.pid, e.limit, e.pid)
}
