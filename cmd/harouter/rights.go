package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// checkRights tells in one sentence what this process may not do and must.
func checkRights(verb string) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	var effective uint64
	for line := range strings.Lines(string(status)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			if effective, err = strconv.ParseUint(strings.TrimSpace(hex), 16, 64); err != nil {
				return fmt.Errorf("read own capabilities: %w", err)
			}
		}
	}
	var missing []string
	for name, bit := range map[string]uint{"NET_ADMIN": unix.CAP_NET_ADMIN, "NET_RAW": unix.CAP_NET_RAW} {
		if effective&(1<<bit) == 0 {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("harouter %s needs root, or the capabilities NET_ADMIN and NET_RAW; this process has not: %s", verb, strings.Join(missing, ", "))
	}
	return nil
}
