package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"harouter/ha"
	"harouter/ha/config"
	"harouter/ha/control"
)

// failoverArgs travel over the control socket.
type failoverArgs struct {
	To   string `json:"to,omitempty"`
	Auto bool   `json:"auto,omitempty"`
}

func newFailover(c *common) *cobra.Command {
	var args failoverArgs
	cmd := &cobra.Command{
		Use: "failover", Short: "hand the mastership over, planned and without a gap", Args: noArgs,
		Long: "Hands the mastership over to another node and returns when that is done. The role stays there,\n" +
			"whatever the priorities, until that node fails or failover --auto ends the hold.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if args.Auto && args.To != "" {
				return wrongInput{errors.New("--to and --auto exclude each other: --auto ends a hold, --to begins one")}
			}
			if _, err := askOnce(cmd.Context(), c, workLimit, "failover", args); err != nil {
				return err
			}
			text := "handed over"
			switch {
			case args.Auto:
				text = "the mastership follows the priorities again"
			case args.To != "":
				text = args.To + " is master"
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().StringVar(&args.To, "to", "", "`NODE` that is to take over (default the best of the others)")
	cmd.Flags().BoolVar(&args.Auto, "auto", false, "end the hold of an earlier failover")
	return cmd
}

// move carries out `failover`.
func (d *daemon) move(args failoverArgs) (ha.Verb, ha.Args, error) {
	if args.Auto {
		return ha.VerbAuto, ha.Args{}, nil
	}
	var names []string
	for _, n := range d.settings().file.Nodes {
		if args.To == "" || n.Name == args.To {
			return ha.VerbFailover, ha.Args{To: args.To}, nil
		}
		names = append(names, n.Name)
	}
	return 0, ha.Args{}, &control.Error{Code: 2, Text: fmt.Sprintf("there is no node %q%s; there are: %s; nothing changed",
		args.To, config.DidYouMean(args.To, names), strings.Join(names, ", "))}
}
