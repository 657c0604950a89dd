package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// common are the flags that every verb has.
type common struct {
	config, keyFile, node, runDir, stateDir string
}

// parserNames are what Go's parsers put before their complaint about a flag.
var parserNames = regexp.MustCompile(`strconv\.Parse\w+: parsing "[^"]*": |time: `)

func newRoot() *cobra.Command {
	c := &common{}
	root := &cobra.Command{
		Use:   "harouter",
		Short: "two Linux routers that behave as one",
		Long: "harouter makes two (or more) Linux routers behave as one that cannot fail: they elect a master by\n" +
			"VRRP, share the health of every ISP line, and balance the LAN over the lines that work.",
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return c.complete() },
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return wrongInput{fmt.Errorf("%s; see %s --help", parserNames.ReplaceAllString(err.Error(), ""), cmd.CommandPath())}
	})
	f := root.PersistentFlags()
	f.StringVar(&c.config, "config", "/etc/harouter/harouter.yaml", "configuration `FILE`, the same on every node")
	f.StringVar(&c.keyFile, "key-file", "", "cluster key `FILE` (default cluster.key beside the configuration)")
	f.StringVar(&c.node, "node", "", "`NAME` of this node in the configuration (default the host name)")
	f.StringVar(&c.runDir, "run-dir", "/run/harouter", "`DIR` of the control socket")
	f.StringVar(&c.stateDir, "state-dir", "/var/lib/harouter", "`DIR` for what is remembered over restarts")
	root.AddCommand(newRun(c), newInit(c), newImport(c), newToken(c), newJoin(c), newStatus(c), newEvents(c), newCheck(c), newPlan(c), newFailover(c), newMaintenance(c), newUplink(c), newReload(c),
		newLeave(c), newStop(c), newVersion(), newDoctor(c), newGuard(), newChild(), newFence(c), newManual(), newTrial())
	return root
}

// complete fills in what follows from other flags. Paths become absolute: the
// guard, and who is told of a path, may be elsewhere.
func (c *common) complete() error {
	for _, p := range []*string{&c.config, &c.keyFile, &c.runDir, &c.stateDir} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("find %s: %w", *p, err)
		}
		*p = abs
	}
	if c.keyFile == "" {
		c.keyFile = filepath.Join(filepath.Dir(c.config), "cluster.key")
	}
	if c.node == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find this node's name: %w; give it with --node", err)
		}
		c.node, _, _ = strings.Cut(strings.ToLower(host), ".") // no name in a file has capitals
	}
	return nil
}

func unknownVerb(cmd *cobra.Command, verb string) error {
	hint := ""
	if s := cmd.SuggestionsFor(verb); len(s) > 0 {
		hint = fmt.Sprintf(" did you mean %q?", s[0])
	}
	return wrongInput{fmt.Errorf("there is no command %q;%s see %s --help", strings.TrimPrefix(cmd.CommandPath()+" "+verb, "harouter "), hint, cmd.CommandPath())}
}

// noArgs refuses words behind a verb that takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return wrongInput{fmt.Errorf("%s takes no argument, got %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())}
	}
	return nil
}
