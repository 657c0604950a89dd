package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"harouter/ha/control"
)

func newStop(c *common) *cobra.Command {
	var args stopArgs
	cmd := &cobra.Command{
		Use: "stop", Short: "leave the cluster and end the daemon", Args: noArgs,
		Long: "As SIGTERM: a master hands over first. Routing tables, rules and flows stay for the next run, and\n" +
			"with no live peer the virtual addresses too. With --clean everything that harouter made is removed,\n" +
			"also when no daemon runs.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := stopDaemon(cmd.Context(), c, args)
			if hung, ok := errors.AsType[*hungError](err); ok && args.Clean && hung.pid > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "the daemon (process %d) does not answer: it is killed\n", hung.pid)
				err = killDaemon(c, hung.pid)
			}
			if errors.Is(err, control.ErrNoDaemon) && args.Clean {
				err = cleanWithoutDaemon(cmd.Context(), c, cmd.ErrOrStderr())
			}
			if err != nil {
				return err
			}
			text := "stopped"
			if args.Clean {
				text = "stopped, and everything that harouter made is removed; net.ipv4.ip_forward stays on: without a firewall of your own this machine forwards all now"
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().BoolVar(&args.Clean, "clean", false, "remove everything that harouter made")
	return cmd
}

// stopLimit is how long a daemon may take to leave (DESIGN.md §4).
const stopLimit = 10 * time.Second

// stopDaemon asks the daemon to leave and waits until it has.
func stopDaemon(ctx context.Context, c *common, args stopArgs) error {
	if _, err := askOnce(ctx, c, askLimit, "stop", args); err != nil {
		return nothingToStop(c, err)
	}
	return waitEnded(c)
}

// nothingToStop says it in other words than those for who wants a daemon.
func nothingToStop(c *common, err error) error {
	if !errors.Is(err, control.ErrNoDaemon) {
		return err
	}
	return fmt.Errorf("%w with the run directory %s: there is nothing to stop; what an earlier one left goes with harouter stop --clean", control.ErrNoDaemon, c.runDir)
}

// waitEnded waits until the daemon has left.
func waitEnded(c *common) error {
	for end := time.Now().Add(stopLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if control.Ended(c.runDir) {
			return nil
		}
	}
	return fmt.Errorf("the daemon in %s did not end within %v: look at its log", c.runDir, stopLimit)
}

// killDaemon ends a daemon that hangs; once it is gone there is none.
func killDaemon(c *common, pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill the daemon (process %d), which does not answer: %w", pid, err)
	}
	for end := time.Now().Add(askLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if control.Ended(c.runDir) {
			return control.ErrNoDaemon
		}
	}
	return fmt.Errorf("the daemon (process %d) was killed and is still there", pid)
}
