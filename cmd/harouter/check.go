package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"harouter/ha/config"
)

func newCheck(c *common) *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE]", Short: "validate a configuration file: exit code 0 fine, 2 wrong",
		Long: "Reads a file (default that of --config) and tells every mistake in it with line, column and excerpt.\n" +
			"Warnings go to stderr too and do not change the exit code. If this host is one of its nodes, its\n" +
			"devices are looked at as well, and so are the rules in nft.d beside the file.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return wrongInput{errors.New("check takes one file")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name := c.config
			if len(args) == 1 {
				name = args[0]
			}
			return check(cmd, c, name)
		},
	}
}

func check(cmd *cobra.Command, c *common, name string) error {
	stderr := cmd.ErrOrStderr()
	file, problems := config.Load(name)
	for _, p := range problems {
		fmt.Fprintln(stderr, p)
	}
	if errs := problems.Errors(); len(errs) > 0 {
		fmt.Fprintf(stderr, "%s: %s\n", name, plural(len(errs), "mistake"))
		return silent{2}
	}
	s := &settings{file: file, node: c.node}
	if _, err := s.balancer(); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return silent{2}
	}
	for _, n := range file.Nodes {
		if n.Name == c.node {
			for _, w := range s.missingDevices() {
				fmt.Fprintln(stderr, "warning:", w)
			}
		}
	}
	for _, f := range examineSnippets(name) {
		fmt.Fprintf(stderr, "warning: %s: %s\n", f.Subject, f.Text)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: fine (cluster %s: %s, %s, %s)\n", name, file.Cluster,
		plural(len(file.Nodes), "node"), plural(len(file.Lans), "lan"), plural(len(file.Uplinks), "uplink"))
	return err
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
