package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"harouter/ha"
)

// What this node remembers over a restart, beside the accepted file
// (generation.go) and the events.

func (d *daemon) peersFile() string { return filepath.Join(d.c.stateDir, "peers.json") }

func (d *daemon) remembered() (map[string][]netip.Addr, error) {
	known := map[string][]netip.Addr{}
	b, err := os.ReadFile(d.peersFile())
	if errors.Is(err, os.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return known, err
	}
	if err := json.Unmarshal(b, &known); err != nil {
		return map[string][]netip.Addr{}, fmt.Errorf("read %s: %w", d.peersFile(), err)
	}
	return known, nil
}

func (d *daemon) remember(known map[string][]netip.Addr) error {
	d.knowOthers(known)
	d.configureReplica(d.settings())
	b, err := json.Marshal(known)
	if err != nil {
		return err
	}
	return place(document{d.peersFile(), append(b, '\n'), 0o644})
}

// restFile is there while an operator keeps this node in maintenance.
func (d *daemon) restFile() string { return filepath.Join(d.c.stateDir, "maintenance") }

func (d *daemon) resting() (bool, error) {
	switch _, err := os.Stat(d.restFile()); {
	case err == nil:
		return true, nil
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	default:
		return false, err
	}
}

// Rest keeps the maintenance mode for the next start.
func (d *daemon) Rest(on bool) error {
	if on {
		return place(document{d.restFile(), []byte("harouter maintenance off ends this\n"), 0o644})
	}
	return ignoreMissing(os.Remove(d.restFile()))
}

// switchesFile tells what operators said of uplinks.
func (d *daemon) switchesFile() string { return filepath.Join(d.c.stateDir, "uplinks.json") }

func (d *daemon) switches() (map[string]ha.Switch, error) {
	b, err := os.ReadFile(d.switchesFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var of map[string]ha.Switch
	if err := json.Unmarshal(b, &of); err != nil {
		return nil, fmt.Errorf("read %s: %w", d.switchesFile(), err)
	}
	return of, nil
}

// KeepSwitches keeps for the next start which uplinks are disabled by hand.
func (d *daemon) KeepSwitches(of map[string]ha.Switch) error {
	b, err := json.Marshal(of)
	if err != nil {
		return err
	}
	return place(document{d.switchesFile(), append(b, '\n'), 0o644})
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
