package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"harouter/ha/child"
)

// newChild is what stands between the daemon and a program that it starts;
// people have no use for it.
func newChild() *cobra.Command {
	return &cobra.Command{
		Use: child.Verb + " PROGRAM [ARGUMENT...]", Hidden: true, DisableFlagParsing: true,
		PersistentPreRun: func(*cobra.Command, []string) {}, // it needs no flag of ours
		RunE: func(_ *cobra.Command, args []string) error {
			code, err := child.Become(args)
			fmt.Fprintln(os.Stderr, "harouter:", err)
			return silent{code}
		},
	}
}
