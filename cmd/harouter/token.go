package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"harouter/ha/control"
	"harouter/ha/join"
)

// defaultSync is the port that a join line leaves out (DESIGN.md §4).
const defaultSync = 7947

// tokenArgs and tokenAnswer travel over the control socket.
type (
	tokenArgs struct {
		TTL string `json:"ttl,omitempty"` // as 90m; "" the default
	}
	tokenAnswer struct {
		Token   string         `json:"token"`
		Address netip.AddrPort `json:"address"`
		Until   time.Time      `json:"until"`
	}
)

func newToken(c *common) *cobra.Command {
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "token", Short: "make a ticket for one more router, as a complete join line", Args: noArgs,
		Long: "Asks the daemon on this node for a single-use ticket and prints the line to type on the new router.\n" +
			"The ticket is a secret until it is used: it gives the cluster's key to whoever comes first.\n" +
			"The daemon listens for new routers only while a ticket is valid; its end is the end of its tickets.",
		Example: "  harouter token\n  harouter token --ttl 10m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl < join.MinTTL || ttl > join.MaxTTL {
				return wrongInput{fmt.Errorf("--ttl %v: allowed: %v to %v", ttl, join.MinTTL, join.MaxTTL)}
			}
			raw, err := askOnce(cmd.Context(), c, askLimit, "token", tokenArgs{TTL: ttl.String()})
			if err != nil {
				return err
			}
			var a tokenAnswer
			if err := json.Unmarshal(raw, &a); err != nil {
				return fmt.Errorf("read the daemon's answer: %w", err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "for one router, until %s; on the new router, as root:\n", a.Until.Local().Format("2006-01-02 15:04:05"))
			_, err = fmt.Fprintln(cmd.OutOrStdout(), joinLine(a))
			return err
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", join.DefaultTTL, "how long the ticket is valid, 1s to 24h")
	return cmd
}

func joinLine(a tokenAnswer) string {
	address := a.Address.String()
	if a.Address.Port() == defaultSync {
		address = a.Address.Addr().String()
	}
	return fmt.Sprintf("harouter join %s --token %s", address, a.Token)
}

// token answers the command of the same name.
func (d *daemon) token(ctx context.Context, args tokenArgs) (tokenAnswer, error) {
	ttl := join.DefaultTTL
	if args.TTL != "" {
		var err error
		if ttl, err = time.ParseDuration(args.TTL); err != nil {
			return tokenAnswer{}, &control.Error{Text: fmt.Sprintf("ttl: %v; allowed: %v to %v", err, join.MinTTL, join.MaxTTL), Code: 2}
		}
	}
	t, err := d.join.Issue(ctx, ttl)
	if err != nil {
		return tokenAnswer{}, err
	}
	return tokenAnswer{Token: t.Word(), Address: d.settings().sync()[0], Until: t.Until()}, nil
}
