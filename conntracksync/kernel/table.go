package kernel

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

const tableDir = "/proc/sys/net/netfilter/"

// TableUse returns how many flows the connection table holds and how many it
// can hold. An error most likely means that connection tracking is not loaded
// (yet), so that there is no table.
func TableUse() (count, limit int, err error) {
	if count, err = number(tableDir + "nf_conntrack_count"); err != nil {
		return 0, 0, err
	}
	if limit, err = number(tableDir + "nf_conntrack_max"); err != nil {
		return 0, 0, err
	}
	return count, limit, nil
}

// AlwaysTell has the kernel prepare every flow for events from its beginning. By
// default a flow that began while nobody listened is silent for all its life,
// its end included, so that after a restart only Dump would notice it.
func AlwaysTell() error {
	if err := os.WriteFile(tableDir+"nf_conntrack_events", []byte("1"), 0); err != nil {
		return fmt.Errorf("have the connection table tell all events: %w", err)
	}
	return nil
}

func number(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read a setting of the connection table: %w", err)
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return 0, fmt.Errorf("read a setting of the connection table in %s: %w", file, err)
	}
	return n, nil
}

// Resize sets how many flows the table can hold. The kernel permits it in its
// first network namespace only.
func Resize(flows int) error {
	file := tableDir + "nf_conntrack_max"
	if now, err := number(file); err == nil && now == flows {
		return nil
	}
	if err := os.WriteFile(file, strconv.AppendInt(nil, int64(flows), 10), 0); err != nil {
		return fmt.Errorf("have the connection table hold %d flows: %w", flows, err)
	}
	return nil
}
