package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"harouter/ha"
	"harouter/ha/config"
	"harouter/ha/control"
)

// uplinkArgs travel over the control socket.
type uplinkArgs struct {
	Name string `json:"name"`
	Off  bool   `json:"off"`
}

func newUplink(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use: "uplink", Short: "list the uplinks; take one out of service on all nodes, or back in", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "show the uplinks, and which are disabled by hand", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				raw, err := askOnce(cmd.Context(), c, askLimit, "status", nil)
				if err != nil {
					return err
				}
				var s ha.Status
				if err := json.Unmarshal(raw, &s); err != nil {
					return fmt.Errorf("read the daemon's answer: %w", err)
				}
				return listUplinks(cmd.OutOrStdout(), s)
			},
		},
		newSwitch(c, "enable", "take an uplink back into service, on all nodes",
			"The uplink gets new connections again as soon as it works, on every node. Remembered over restarts.", false),
		newSwitch(c, "disable", "take an uplink out of service, on all nodes",
			"New connections take the other uplinks; those that run on this one go on until they end, or until it\n"+
				"dies. It holds on every node and over restarts, until harouter uplink enable. A node that is off\n"+
				"follows when it comes back.", true),
	)
	return cmd
}

func newSwitch(c *common, verb, short, long string, off bool) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME", Short: short, Long: long, Example: "  harouter uplink " + verb + " cable",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return wrongInput{fmt.Errorf("uplink %s takes the name of one uplink, got %q; harouter uplink list shows them", verb, strings.Join(args, " "))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := askOnce(cmd.Context(), c, workLimit, "uplink", uplinkArgs{Name: args[0], Off: off}); err != nil {
				return err
			}
			text := args[0] + " is enabled"
			if off {
				text = args[0] + " is disabled: new connections take the other uplinks"
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
}

func listUplinks(out io.Writer, s ha.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "UPLINK\tBY HAND\tSTATE\tSHARE\tDEVICE")
	for _, u := range s.Uplinks {
		hand := "enabled"
		if !u.Enabled {
			hand = "disabled"
		}
		fmt.Fprintf(w, "%s\t%s\t%v\t%.0f %%\t%s\n", u.Name, hand, u.State, u.Share*100, u.Device)
	}
	return w.Flush()
}

// turn carries out `uplink enable` and `uplink disable`.
func (d *daemon) turn(args uplinkArgs) (ha.Verb, ha.Args, error) {
	var names []string
	for _, u := range d.settings().file.Uplinks {
		if u.Name == args.Name {
			verb := ha.VerbEnable
			if args.Off {
				verb = ha.VerbDisable
			}
			return verb, ha.Args{Uplink: args.Name}, nil
		}
		names = append(names, u.Name)
	}
	return 0, ha.Args{}, &control.Error{Code: 2, Text: fmt.Sprintf("there is no uplink %q%s; there are: %s; nothing changed",
		args.Name, config.DidYouMean(args.Name, names), strings.Join(names, ", "))}
}
