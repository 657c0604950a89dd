package netlab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
)

// A namespace is named hr-PID-STARTxN-NODE: PID and START are the process that
// made the site and the kernel's tick at which it started (a pid alone may be
// another process by now), N counts its sites.
var namespaceName = regexp.MustCompile(`^(hr-([0-9]+)-([0-9a-f]+)x[0-9a-f]+)-([a-z0-9]+)$`)

const namespaceDir = "/run/netns"

var siteCount atomic.Int64

func newPrefix() (string, error) {
	start, err := startTick(os.Getpid())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("hr-%d-%xx%x", os.Getpid(), start, siteCount.Add(1)), nil
}

// startTick reads when a process started, in clock ticks since the boot.
func startTick(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in parentheses and may hold anything.
	rest := stat[bytes.LastIndexByte(stat, ')')+1:]
	fields := bytes.Fields(rest)
	if len(fields) < 20 {
		return 0, fmt.Errorf("parse /proc/%d/stat: %d fields after the name", pid, len(fields))
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// siteRoot holds one folder per site: logs, run and state folders, agents' reports.
func siteRoot() string { return filepath.Join(os.TempDir(), "harouter-netlab") }

func keepFile(prefix string) string { return filepath.Join(siteRoot(), prefix, "keep") }

// Sweep removes what dead runs left behind: the namespaces, the processes in
// them and the files of sites whose creator no longer lives and which nobody
// asked to keep. It returns the prefixes it removed. New calls it.
func Sweep() ([]string, error) {
	names, err := siteNames()
	if err != nil {
		return nil, err
	}
	var removed []string
	var errs []error
	for prefix := range names {
		if alive(prefix) {
			continue
		}
		if _, err := os.Stat(keepFile(prefix)); err == nil {
			continue
		}
		if err := Remove(prefix); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, prefix)
	}
	return removed, errors.Join(errs...)
}

// siteNames finds every site there is a namespace or a folder of, with its namespaces.
func siteNames() (map[string][]string, error) {
	sites := map[string][]string{}
	namespaces, err := os.ReadDir(namespaceDir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, e := range namespaces {
		if m := namespaceName.FindStringSubmatch(e.Name()); m != nil {
			sites[m[1]] = append(sites[m[1]], e.Name())
		}
	}
	folders, err := os.ReadDir(siteRoot())
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, e := range folders {
		if namespaceName.MatchString(e.Name()+"-x") && sites[e.Name()] == nil {
			sites[e.Name()] = nil
		}
	}
	return sites, nil
}

// alive tells whether the process that made the site still runs.
func alive(prefix string) bool {
	m := namespaceName.FindStringSubmatch(prefix + "-x")
	if m == nil {
		return true // not a name of ours: hands off
	}
	pid, err := strconv.Atoi(m[2])
	if err != nil {
		return true
	}
	start, err := startTick(pid)
	return err == nil && strconv.FormatUint(start, 16) == m[3]
}

// Remove takes a site down by its prefix, whoever made it: every process in
// its namespaces, the namespaces, the files. Also for a site that was kept.
func Remove(prefix string) error {
	if !namespaceName.MatchString(prefix + "-x") {
		return fmt.Errorf("remove site %q: not a prefix of a site", prefix)
	}
	sites, err := siteNames()
	if err != nil {
		return err
	}
	var script strings.Builder
	for _, name := range sites[prefix] {
		if err := killAllIn(filepath.Join(namespaceDir, name)); err != nil {
			return fmt.Errorf("remove site %s: %w", prefix, err)
		}
		fmt.Fprintf(&script, "netns del %s\n", name)
	}
	if err := ipBatch(script.String()); err != nil {
		return fmt.Errorf("remove site %s: %w", prefix, err)
	}
	return os.RemoveAll(filepath.Join(siteRoot(), prefix))
}
