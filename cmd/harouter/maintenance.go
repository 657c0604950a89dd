package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// maintenanceArgs travel over the control socket.
type maintenanceArgs struct {
	On bool `json:"on"`
}

func newMaintenance(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use: "maintenance on|off", Short: "keep this node out of service, or take it back in",
		Long: "on: a master hands over first, without a gap; then this node is master only if no other is alive.\n" +
			"off: it takes part again as its priority says. Remembered over restarts.",
		Example: "  harouter maintenance on\n  harouter maintenance off",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] != "on" && args[0] != "off" {
				return wrongInput{fmt.Errorf("maintenance takes one word, on or off; got %q", strings.Join(args, " "))}
			}
			return nil
		},
		ValidArgs: []string{"on", "off"},
		RunE: func(cmd *cobra.Command, words []string) error {
			args := maintenanceArgs{On: words[0] == "on"}
			if _, err := askOnce(cmd.Context(), c, workLimit, "maintenance", args); err != nil {
				return err
			}
			text := "this node takes part again"
			if args.On {
				text = "this node is in maintenance: it is master only while no other is alive"
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	return cmd
}
