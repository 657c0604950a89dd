package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// These are set by the Makefile; a plain go build falls back to what the
// toolchain recorded.
var (
	version = ""
	commit  = "" // in full
	date    = "" // of the commit, as 2026-11-21: the same sources give the same bytes
)

func versionString() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "git-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "harouter %s (%s %s/%s)\n%s", versionString(), runtime.Version(), runtime.GOOS, runtime.GOARCH, source())
			return err
		},
	}
}

// source is the line that says what this was built from; none where it is not known.
func source() string {
	if commit == "" {
		return ""
	}
	return fmt.Sprintf("commit %s of %s\n", commit, date)
}
