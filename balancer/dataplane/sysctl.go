package dataplane

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"harouter/balancer"
)

func sysctlPath(key string) string { return "/proc/sys/" + key }

func readSysctl(key string) (string, error) {
	fd, err := unix.Open(sysctlPath(key), unix.O_RDONLY|unix.O_CLOEXEC, 0) // os.ReadFile costs twice as much
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	b := make([]byte, 64)
	n, err := unix.Read(fd, b)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b[:n])), nil
}

func writeSysctl(key, value string) error {
	return os.WriteFile(sysctlPath(key), []byte(value), 0)
}

// passSysctls compares the sysctls that open the router, or the others, and sets
// what differs after it has kept what was there before. Settings of a device that
// is missing wait for it.
func (k *Kernel) passSysctls(p *balancer.Plan, opens, write bool) (d difference) {
	there := map[string]string{}
	for key, value := range k.wrote.sysctls {
		if (balancer.Sysctl{Key: key}).Opens() != opens {
			there[key] = value
		}
	}
	var todo []balancer.Sysctl
	noticed := false
	for _, s := range p.Sysctls {
		if s.Opens() != opens {
			continue
		}
		if strings.HasSuffix(s.Key, "/rp_filter") {
			// The kernel takes the greater of "all" and the device's: strict
			// there can only be softened to loose.
			if all, err := readSysctl("net/ipv4/conf/all/rp_filter"); err == nil && all == "1" {
				s.Value = "2"
			}
		}
		have, err := readSysctl(s.Key)
		switch {
		case errors.Is(err, unix.ENOENT):
			delete(k.wrote.sysctls, s.Key)
			continue
		case err != nil:
			d.err = errors.Join(d.err, fmt.Errorf("read the sysctl %s: %w", s.Key, err))
			continue
		case have == s.Value:
			there[s.Key] = s.Value
			continue
		}
		if !noticed { // the device may be another one
			k.noticeDevices(p)
			noticed = true
		}
		d.change = true
		if write && !s.Keep {
			k.keep(s.Key, have, s.Value)
		}
		if k.wrote.sysctls[s.Key] == s.Value {
			d.damage("%s=%s", s.Key, s.Value)
		}
		todo = append(todo, s)
	}
	if !write {
		return d
	}
	k.save() // first kept, then changed: a crash between loses nothing
	for _, s := range todo {
		if err := writeSysctl(s.Key, s.Value); err != nil {
			d.err = errors.Join(d.err, fmt.Errorf("set the sysctl %s: %w", s.Key, err))
			continue
		}
		there[s.Key] = s.Value
	}
	k.wrote.sysctls = there
	return d
}

// leaveSysctls sets back what the plan does not name any more, as of a device
// that is no longer used.
func (k *Kernel) leaveSysctls(p *balancer.Plan) error {
	named := map[string]bool{}
	for _, s := range p.Sysctls {
		named[s.Key] = true
	}
	return k.restore(func(key string) bool { return !named[key] })
}

// restore sets those back that still hold our value.
func (k *Kernel) restore(which func(key string) bool) error {
	k.load()
	var failed error
	for key, s := range k.settings {
		if !which(key) {
			continue
		}
		// Else the device is gone, or somebody else has set it since.
		if have, err := readSysctl(key); err == nil && have == s.Ours {
			if err := writeSysctl(key, s.Before); err != nil {
				failed = errors.Join(failed, fmt.Errorf("set the sysctl %s back: %w", key, err))
				continue
			}
		}
		delete(k.settings, key)
		k.unsaved = true
	}
	k.save()
	return failed
}
