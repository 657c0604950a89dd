package dataplane

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"harouter/balancer"
)

// setting is a sysctl that we changed.
type setting struct {
	Before string `json:"before"`
	Ours   string `json:"ours"`
}

func (k *Kernel) sysctlFile() string { return filepath.Join(k.cfg.StateDir, "sysctl.json") }

func sysctlPath(key string) string { return "/proc/sys/" + key }

func readSysctl(key string) (string, error) {
	b, err := os.ReadFile(sysctlPath(key))
	return strings.TrimSpace(string(b)), err
}

// applySysctls sets what differs, and keeps what was there before. Settings of
// a device that is missing wait for it.
func (k *Kernel) applySysctls(wanted []balancer.Sysctl) error {
	var failed error
	var changed map[string]setting
	type change struct{ key, value string }
	var todo []change
	for _, s := range wanted {
		value := s.Value
		if strings.HasSuffix(s.Key, "/rp_filter") {
			// The kernel takes the greater of "all" and the device's: strict
			// there can only be softened to loose.
			if all, err := readSysctl("net/ipv4/conf/all/rp_filter"); err == nil && all == "1" {
				value = "2"
			}
		}
		have, err := readSysctl(s.Key)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("read the sysctl %s: %w", s.Key, err))
			continue
		}
		if have == value {
			continue
		}
		if !s.Keep {
			if changed == nil {
				if changed, err = k.readSettings(); err != nil {
					k.cfg.Log.Warn("the sysctls before ours", "error", err)
				}
			}
			before := have
			if old, ok := changed[s.Key]; ok {
				before = old.Before
			}
			changed[s.Key] = setting{Before: before, Ours: value}
		}
		todo = append(todo, change{s.Key, value})
	}
	if changed != nil { // first kept, then changed: a crash between loses nothing
		if err := k.writeSettings(changed); err != nil { // routing goes on without it
			k.cfg.Log.Warn("keep the sysctls before ours", "error", err)
		}
	}
	for _, c := range todo {
		if err := os.WriteFile(sysctlPath(c.key), []byte(c.value), 0); err != nil {
			failed = errors.Join(failed, fmt.Errorf("set the sysctl %s: %w", c.key, err))
		}
	}
	return failed
}

// readSettings always returns a map.
func (k *Kernel) readSettings() (map[string]setting, error) {
	out := map[string]setting{}
	b, err := os.ReadFile(k.sysctlFile())
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return map[string]setting{}, fmt.Errorf("read %s: %w", k.sysctlFile(), err)
	}
	return out, nil
}

func (k *Kernel) writeSettings(all map[string]setting) error {
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	tmp := k.sysctlFile() + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, k.sysctlFile())
}

func (k *Kernel) restoreSysctls() error {
	all, err := k.readSettings()
	if err != nil {
		return err
	}
	var failed error
	for key, s := range all {
		have, err := readSysctl(key)
		if err != nil || have != s.Ours {
			continue // the device is gone, or somebody else has set it since
		}
		if err := os.WriteFile(sysctlPath(key), []byte(s.Before), 0); err != nil {
			failed = errors.Join(failed, fmt.Errorf("set the sysctl %s back: %w", key, err))
		}
	}
	if err := os.Remove(k.sysctlFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		failed = errors.Join(failed, err)
	}
	return failed
}
