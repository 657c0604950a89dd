package dataplane

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// setting is a sysctl that we changed.
type setting struct {
	Before string `json:"before"`
	Ours   string `json:"ours"`
}

func (k *Kernel) sysctlFile() string { return filepath.Join(k.cfg.StateDir, "sysctl.json") }

// keep notes what a sysctl was before us; the first note stays.
func (k *Kernel) keep(key, before, ours string) {
	k.load()
	if old, ok := k.settings[key]; ok {
		before = old.Before
	}
	if s := (setting{Before: before, Ours: ours}); k.settings[key] != s {
		k.settings[key] = s
		k.unsaved = true
	}
}

// load reads the file of a former run, once. One that cannot be read is moved
// aside: routing goes on without it.
func (k *Kernel) load() {
	if k.settings != nil {
		return
	}
	k.settings = map[string]setting{}
	b, err := os.ReadFile(k.sysctlFile())
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		k.settings, err = parseSettings(b)
	}
	if err == nil {
		return
	}
	aside := k.sysctlFile() + ".broken"
	err = errors.Join(err, os.Rename(k.sysctlFile(), aside))
	k.cfg.Log.Warn("the sysctls before ours are not known any more; the file is moved aside", "file", aside, "error", err)
}

// parseSettings always returns a map. What is no sysctl that we could have set
// is left out: the keys become names of files.
func parseSettings(b []byte) (map[string]setting, error) {
	all := map[string]setting{}
	if err := json.Unmarshal(b, &all); err != nil {
		return map[string]setting{}, fmt.Errorf("read the sysctls before ours: %w", err)
	}
	if all == nil { // the word null
		return map[string]setting{}, nil
	}
	for key := range all {
		if !filepath.IsLocal(key) || filepath.Clean(key) != key || !strings.HasPrefix(key, "net/") {
			delete(all, key)
		}
	}
	return all, nil
}

// save writes the file whole or not at all. Without a place to write to,
// routing goes on, and each change of a sysctl tries again.
func (k *Kernel) save() {
	if !k.unsaved {
		return
	}
	err := k.writeSettings()
	k.unsaved = err != nil
	if err != nil && !k.warned {
		k.cfg.Log.Warn("the sysctls before ours are remembered by this process only", "error", err)
	}
	k.warned = err != nil
}

func (k *Kernel) writeSettings() error {
	if len(k.settings) == 0 {
		if err := os.Remove(k.sysctlFile()); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.MarshalIndent(k.settings, "", "  ")
	if err != nil {
		return err
	}
	tmp := k.sysctlFile() + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, k.sysctlFile())
}
