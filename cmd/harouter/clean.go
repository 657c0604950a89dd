package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"harouter/balancer/dataplane"
	"harouter/ha/config"
	"harouter/ha/guard"
	"harouter/vrrp/vip"
)

// cleanWithoutDaemon does what a daemon that was ended with --clean would have
// done. Which addresses there are is known from the guard of the last run and
// from its file; all else carries our name or number.
func cleanWithoutDaemon(ctx context.Context, c *common, notes io.Writer) error {
	if err := checkRights("stop --clean"); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(notes, &slog.HandlerOptions{Level: slog.LevelWarn}))
	previous, err := guard.TakeOver(c.runDir)
	var failed error
	if err != nil {
		failed = fmt.Errorf("end the guard of the last run: %w", err)
	}
	known, unknown := leftSettings(c)
	failed = errors.Join(failed, cleanAddresses(ctx, known, previous, log))
	if known == nil {
		fmt.Fprintf(notes, "no file tells which addresses were harouter's: %v\n", unknown)
		failed = errors.Join(failed, sweep(previous != nil))
	}
	plane, err := dataplane.New(dataplane.Config{Log: log, StateDir: c.stateDir})
	if err != nil {
		return errors.Join(failed, err)
	}
	return errors.Join(failed, plane.Cleanup(ctx))
}

// leftSettings is what the last run had: the file that it kept, or if that
// cannot be used the present one.
func leftSettings(c *common) (*settings, error) {
	_, text, unusable := readGeneration(c.stateDir)
	if text != nil {
		var s *settings
		if s, unusable = parse(acceptedFile(c.stateDir), text, c.node); unusable == nil {
			return s, nil
		}
	}
	text, problems := config.Read(c.config)
	err := problems.Errors().Err()
	if err == nil {
		var s *settings
		if s, err = parse(c.config, text, c.node); err == nil {
			return s, nil
		}
	}
	return nil, errors.Join(unusable, err)
}

// cleanAddresses takes the virtual addresses away, and the link-local ones.
func cleanAddresses(ctx context.Context, known *settings, previous *guard.State, log *slog.Logger) error {
	var failed error
	if known != nil {
		v := known.vip()
		v.Log = log
		keeper, err := vip.New(v)
		if err != nil {
			return err
		}
		failed = errors.Join(keeper.Remove(ctx), keeper.Cleanup(ctx))
	}
	if previous == nil {
		return failed
	}
	r, err := vip.NewRemover()
	if err != nil {
		return errors.Join(failed, err)
	}
	defer r.Close()
	var held []vip.Address
	for _, a := range previous.Addresses {
		held = append(held, vip.Address{Device: a.Device, Prefix: a.Prefix})
	}
	return errors.Join(failed, r.Remove(held))
}

// sweep removes the addresses that can be recognised. Those that cannot are an
// error, unless they are sure to be another's.
func sweep(sure bool) error {
	r, err := vip.NewRemover()
	if err != nil {
		return err
	}
	defer r.Close()
	doubtful, err := r.Sweep()
	if sure || len(doubtful) == 0 {
		return err
	}
	var lines []string
	for _, a := range doubtful {
		lines = append(lines, fmt.Sprintf("ip address del %v dev %s", a.Prefix, a.Device))
	}
	return errors.Join(err, fmt.Errorf("all else is removed, but these may be virtual addresses, and no file tells: remove those that are with\n  %s", strings.Join(lines, "\n  ")))
}
