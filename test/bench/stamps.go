package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"harouter/conntracksync"
	"harouter/conntracksync/kernel"
	"harouter/test/netlab"
)

// stampsRole writes down when each connection of a flood was first established
// in the kernel's table of its node, until it is ended. Its argument is a file.
func stampsRole(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("want a file")
	}
	runtime.LockOSThread()
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 10}
	_ = unix.SchedSetAttr(0, &attr, 0) // without the right: go on without
	// Not kernel.Listener, which lets events gather.
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const began, changed = 1, 2 // NFNLGRP_CONNTRACK_NEW, …_UPDATE, as bits
	if err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50000}),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: began | changed}),
		os.WriteFile(args[0]+".ready", nil, 0o644),
	); err != nil {
		return err
	}
	first := make(map[netip.AddrPort]int64, 1<<17)
	var flow conntracksync.Flow
	b := make([]byte, 4096)
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(fd, b, 0)
		at := netlab.Now()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		if n < unix.NLMSG_HDRLEN {
			continue
		}
		if err := kernel.Parse(b[unix.NLMSG_HDRLEN:n], &flow); err != nil {
			return err
		}
		o := flow.Original
		if flow.TCP.State != conntracksync.Established || o.DestinationPort < netlab.FloodPort || o.DestinationPort >= netlab.FloodPort+netlab.FloodPorts {
			continue
		}
		// The server's port tells flows of one client's port apart.
		k := netip.AddrPortFrom(netip.AddrFrom4([4]byte{0, 0, 0, byte(o.DestinationPort - netlab.FloodPort)}), o.SourcePort)
		if _, there := first[k]; !there {
			first[k] = int64(at)
		}
	}
	file, err := os.Create(args[0])
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	for k, at := range first {
		fmt.Fprintf(w, "%s %d\n", k, at)
	}
	return errors.Join(w.Flush(), file.Close())
}

// delays are the times from when a connection is established in the table of
// the first router to when it is in that of the second, shortest first, and how
// many never came there.
func delays(s *netlab.Site, load func() error) (all []time.Duration, missing int, err error) {
	var seen [2]map[string]int64
	var stamps [2]*netlab.Process
	for i, name := range []string{"r1", "r2"} {
		r := s.Router(name)
		out := filepath.Join(r.Dir(), "stamps")
		_ = os.Remove(out + ".ready")
		if stamps[i], err = r.StartRole("stamps", "stamps", out); err != nil {
			return nil, 0, err
		}
		err := netlab.WaitFor("the clock of "+name, 5*time.Second, func() bool { _, err := os.Stat(out + ".ready"); return err == nil })
		if err != nil {
			return nil, 0, err
		}
	}
	err = load()
	time.Sleep(500 * time.Millisecond)
	for i, p := range stamps {
		code, e := p.Stop(10 * time.Second)
		if e == nil && code != 0 {
			log, _ := os.ReadFile(p.Log)
			e = fmt.Errorf("the clock ended with %d: %.200s", code, log)
		}
		if e == nil {
			seen[i], e = readStamps(filepath.Join(p.Node.Dir(), "stamps"))
		}
		err = errors.Join(err, e)
	}
	if err != nil {
		return nil, 0, err
	}
	for k, at := range seen[0] {
		if there, ok := seen[1][k]; ok {
			all = append(all, time.Duration(there-at))
		} else {
			missing++
		}
	}
	slices.Sort(all)
	return all, missing, nil
}

func readStamps(path string) (map[string]int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	found := map[string]int64{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var key, at string
		if _, err := fmt.Sscan(lines.Text(), &key, &at); err != nil {
			return nil, err
		}
		if found[key], err = strconv.ParseInt(at, 10, 64); err != nil {
			return nil, err
		}
	}
	return found, nil
}
