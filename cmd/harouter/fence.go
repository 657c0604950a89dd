package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"harouter/ha/guard"
)

// fenceVerb is what the service manager calls when the daemon has ended; people
// have no use for it.
const fenceVerb = "fence"

// fenceLimit is how long the verb waits for the addresses to be gone.
const fenceLimit = 5 * time.Second

// newFence is the second line of defence (ExecStopPost= of systemd): where the
// guard was killed together with the daemon, as at the end of a whole cgroup,
// it starts another one for what the dead one was told to do.
func newFence(c *common) *cobra.Command {
	return &cobra.Command{
		Use: fenceVerb, Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), fenceLimit)
			defer cancel()
			log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("part", "guard")
			done, err := guard.Avenge(ctx, "/proc/self/exe", []string{guardVerb, c.runDir}, c.runDir, log)
			if err != nil {
				return err
			}
			if done {
				fmt.Println("the guard had been killed together with the daemon: another one has done its work")
			}
			return nil
		},
	}
}
