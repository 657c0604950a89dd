package traffic

import (
	"bytes"
	"fmt"
	"strconv"
)

// counters are the bytes that a device received and sent.
type counters struct{ received, sent uint64 }

// parse reads /proc/net/dev: two lines of names, then "device: " with eight
// numbers of what was received and eight of what was sent, the bytes first.
func parse(text []byte) (map[string]counters, error) {
	out := map[string]counters{}
	for line := range bytes.Lines(text) {
		i := bytes.LastIndexByte(line, ':') // names may have one
		if i < 0 {
			continue
		}
		name, fields := string(bytes.TrimSpace(line[:i])), bytes.Fields(line[i+1:])
		if len(fields) < 16 {
			return nil, fmt.Errorf("read the counters of %q: %d numbers, want 16", name, len(fields))
		}
		received, err := strconv.ParseUint(string(fields[0]), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the counters of %q: %w", name, err)
		}
		sent, err := strconv.ParseUint(string(fields[8]), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the counters of %q: %w", name, err)
		}
		out[name] = counters{received, sent}
	}
	return out, nil
}
