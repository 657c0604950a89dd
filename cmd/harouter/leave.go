package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func newLeave(c *common) *cobra.Command {
	var forget bool
	cmd := &cobra.Command{
		Use: "leave", Short: "hand over, tell the others, and stop", Args: noArgs,
		Long: "Leaves the cluster without an alarm: a master hands over first. With --forget this node is also\n" +
			"taken out of the file, on all nodes; nothing happens if they do not agree. It does not run again\n" +
			"before it has joined anew.",
		Example: "  harouter leave\n  harouter leave --forget",
		RunE: func(cmd *cobra.Command, _ []string) error {
			text := "left"
			if forget {
				if err := forgetNode(cmd.Context(), c); err != nil {
					return err
				}
				text = "left, and this node is in no file any more but its own"
			} else if err := stopDaemon(cmd.Context(), c, stopArgs{}); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().BoolVar(&forget, "forget", false, "take this node out of the file, on all nodes")
	return cmd
}

// forgetNode asks the daemon to have itself taken out of the file, after which
// it leaves by itself.
func forgetNode(ctx context.Context, c *common) error {
	if _, err := askOnce(ctx, c, reloadLimit, "forget", nil); err != nil {
		return err
	}
	return waitEnded(c)
}
