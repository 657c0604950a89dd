package netlab

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

func init() {
	Role("spin", spin)
	Role("dirty", dirty)
}

// Disturb keeps every processor of the machine busy from a node, twice: at
// normal priority and at nice -20; beside them a hog writes that many MiB of
// fresh memory again and again. It lasts until the processes are killed.
func (n *Node) Disturb(mib int) ([]*Process, error) {
	var all []*Process
	var failed error
	start := func(label, role string, args ...string) {
		p, err := n.StartRole(label, role, args...)
		if err != nil {
			failed = errors.Join(failed, err)
			return
		}
		all = append(all, p)
	}
	for cpu := range runtime.NumCPU() {
		for _, nice := range []int{0, -20} {
			start(fmt.Sprintf("spin%d%+d", cpu, nice), "spin", strconv.Itoa(cpu), strconv.Itoa(nice))
		}
	}
	start("dirty", "dirty", strconv.Itoa(mib))
	return all, failed
}

// spin keeps one processor busy: args are the processor and the nice level.
func spin(ctx context.Context, args []string) error {
	cpu, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	nice, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, nice); err != nil {
		return err
	}
	for ctx.Err() == nil {
	}
	return nil
}

// dirty writes args[0] MiB of memory again and again.
func dirty(_ context.Context, args []string) error {
	mib, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for {
		b, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		if err := unix.Munmap(b); err != nil {
			return err
		}
	}
}
