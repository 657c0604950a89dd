package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"harouter/ha"
)

// reloadArgs travel over the control socket.
type reloadArgs struct {
	Confirm string `json:"confirm,omitempty"` // as 60s
}

// Bounds of a trial: long enough to look, short enough to wait for.
const (
	minTrial = 5 * time.Second
	maxTrial = time.Hour
)

func newReload(c *common) *cobra.Command {
	var confirm time.Duration
	cmd := &cobra.Command{
		Use: "reload", Short: "take the changed file into use, on all nodes or on none", Args: noArgs,
		Long: "The file was changed on every node: each live node reads and checks its own copy, and if all are\n" +
			"valid and equal, all take it into use, without a gap for what stays the same. Else nothing changes\n" +
			"anywhere. A node that is off fetches the file when it comes back.\n" +
			"With --confirm all nodes go back to the file from before unless the change is confirmed in that time:\n" +
			"by Enter here, or by another harouter reload with the file unchanged, on any node. The file that was\n" +
			"tried is then in the directory tried of the state directory.",
		Example: "  harouter reload\n  harouter reload --confirm 60s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var args reloadArgs
			if cmd.Flags().Changed("confirm") {
				if confirm < minTrial || confirm > maxTrial {
					return wrongInput{fmt.Errorf("--confirm %v: allowed: %v to %v", confirm, minTrial, maxTrial)}
				}
				args.Confirm = confirm.String()
			}
			if _, err := askOnce(cmd.Context(), c, reloadLimit, "reload", args); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if args.Confirm == "" {
				_, err := fmt.Fprintln(out, "the file is in use on all live nodes")
				return err
			}
			fmt.Fprintf(out, "the file is in use on all live nodes until %s; to keep it: harouter reload\n", time.Now().Add(confirm).Format("15:04:05"))
			if info, err := os.Stdin.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 || !isTerminal(os.Stdout) {
				return nil
			}
			fmt.Fprint(out, "or press Enter here: ")
			return keepOnEnter(cmd.Context(), c, confirm)
		},
	}
	cmd.Flags().DurationVar(&confirm, "confirm", 0, "go back after `TIME` unless it is confirmed")
	return cmd
}

// reloadLimit is how long all nodes together may take.
const reloadLimit = 12 * time.Second

// keepOnEnter confirms the change if Enter is pressed in time.
func keepOnEnter(ctx context.Context, c *common, within time.Duration) error {
	enter := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(os.Stdin).ReadString('\n')
		enter <- err
	}()
	select {
	case <-ctx.Done():
		return nil // it goes back by itself
	case <-time.After(within):
		fmt.Println("\nnot confirmed: the file from before is in use again")
		return silent{1}
	case err := <-enter:
		if err != nil {
			return fmt.Errorf("read the confirmation: %w; the file from before comes back by itself", err)
		}
	}
	if _, err := askOnce(ctx, c, reloadLimit, "reload", reloadArgs{}); err != nil {
		return err
	}
	fmt.Println("kept")
	return nil
}

func (d *daemon) reload(ctx context.Context, args reloadArgs) error {
	var trial time.Duration
	if args.Confirm != "" {
		var err error
		if trial, err = time.ParseDuration(args.Confirm); err != nil {
			return fmt.Errorf("read the command's arguments: %w", err)
		}
	}
	return d.loop.Command(ctx, ha.VerbReload, ha.Args{Trial: trial})
}
