package dataplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sighting is what a message of the kernel may mean for us.
type sighting struct {
	kinds kindSet
	down  []string // devices that went down or away
}

const (
	listenBuffer = 4 << 20 // bytes; other programs' bursts must not push ours out
	readBuffer   = 1 << 18 // the greatest datagram is a batch of nft's
	listenAgain  = 300 * time.Millisecond
)

// The kernel's groups, as bits and as numbers.
var (
	routeGroups = []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_NETCONF,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE,
	}
	nftGroups = []int{unix.NFNLGRP_NFTABLES}
)

// listener is one subscription.
type listener struct {
	file *os.File
	what string
	read func(b []byte, s *scope) sighting
}

func listen(protocol int, groups []int, buffer int, what string, read func([]byte, *scope) sighting) (*listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("listen to %s: %w", what, err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err == nil && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen to %s: %w", what, err), unix.Close(fd))
	}
	return &listener{file: os.NewFile(uintptr(fd), what), what: what, read: read}, nil
}

// run reports until ctx ends or the subscription breaks. Messages that the
// kernel had to leave out mean that anything may have changed.
func (l *listener) run(ctx context.Context, k *Kernel, out chan<- sighting) error {
	stop := context.AfterFunc(ctx, func() { _ = l.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, readBuffer)
	for {
		n, err := l.file.Read(b)
		if ctx.Err() != nil {
			return nil
		}
		var s sighting
		switch {
		case errors.Is(err, unix.ENOBUFS):
			s.kinds = allKinds
		case err != nil:
			return fmt.Errorf("listen to %s: %w", l.what, err)
		default:
			s = l.read(b[:n], k.scope.Load())
		}
		if s.kinds == 0 {
			continue
		}
		select {
		case out <- s:
		case <-ctx.Done():
			return nil
		}
	}
}

// listenAll subscribes to everything and reports until ctx ends or one
// subscription breaks. It closes the sockets.
func (k *Kernel) listenAll(ctx context.Context, out chan<- sighting) error {
	routes, err := listen(unix.NETLINK_ROUTE, routeGroups, k.buffer, "changes of routing", readRouting)
	if err != nil {
		return err
	}
	defer routes.file.Close()
	nft, err := listen(unix.NETLINK_NETFILTER, nftGroups, k.buffer, "changes of nft tables", readNft)
	if err != nil {
		return err
	}
	defer nft.file.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// What happened before the subscription is not told.
	select {
	case out <- sighting{kinds: allKinds}:
	case <-ctx.Done():
		return nil
	}
	var wg sync.WaitGroup
	failed := make(chan error, 2)
	for _, l := range []*listener{routes, nft} {
		wg.Go(func() {
			defer cancel()
			failed <- l.run(ctx, k, out)
		})
	}
	wg.Wait()
	return errors.Join(<-failed, <-failed)
}

// keepListening subscribes anew when a subscription breaks.
func (k *Kernel) keepListening(ctx context.Context, out chan<- sighting) error {
	told := ""
	for {
		err := k.listenAll(ctx, out)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.EPERM) {
			return err
		}
		if text := fmt.Sprint(err); text != told {
			told = text
			k.cfg.Log.Warn("what others change is seen late: subscribing anew", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(listenAgain):
		}
	}
}
