package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"harouter/deploy/manual"
	"harouter/deploy/samples"
	"harouter/ha/config"
)

// newManual writes the manual pages; the Makefile and packagers use it.
func newManual() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "write the manual pages into a directory", Hidden: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return wrongInput{fmt.Errorf("man takes one directory, which must be there")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, p := range append(manual.Commands(cmd.Root(), versionString()), filePage()) {
				if err := os.WriteFile(filepath.Join(args[0], p.Name), []byte(p.Text), 0o644); err != nil {
					return fmt.Errorf("write a manual page: %w", err)
				}
			}
			return nil
		},
	}
}

// filePage is harouter.yaml(5).
func filePage() manual.Page {
	var keys []manual.Key
	for _, s := range config.Settings() {
		keys = append(keys, manual.Key{
			Path: s.Path, Text: s.Text, Values: s.Values, Example: s.Example,
			Default: cmp.Or(s.Usually, s.Default), Required: s.Required,
		})
	}
	return manual.File(keys, samples.Full, versionString())
}
