package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"harouter/ha"
)

// maintenanceArgs travel over the control socket.
type maintenanceArgs struct {
	On bool `json:"on"`
}

// restText says what maintenance means for this node now.
func restText(ctx context.Context, c *common) string {
	var s ha.Status
	if raw, err := askOnce(ctx, c, askLimit, "status", statusArgs{}); err != nil || json.Unmarshal(raw, &s) != nil {
		s = ha.Status{} // it is in force all the same
	}
	return resting(s)
}

// resting is what maintenance means for the node whose status it is: where nobody
// else can serve, one in maintenance does.
func resting(s ha.Status) string {
	var others, serving int
	for _, n := range s.Nodes {
		if n.Name != s.Node && n.Alive {
			others++
			if !n.Maintenance {
				serving++
			}
		}
	}
	switch {
	case s.VRRP.Master == "" || serving > 0:
		return "this node is in maintenance: it is master only while no other is alive"
	case others == 0:
		return "this node is in maintenance; no other is alive, so it stays master until one is"
	}
	return fmt.Sprintf("this node is in maintenance, and so is every other that is alive: %s stays master, until harouter maintenance off on one of them", s.VRRP.Master)
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
				text = restText(cmd.Context(), c)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	return cmd
}
