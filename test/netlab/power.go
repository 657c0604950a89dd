package netlab

import (
	"fmt"
	"os"
	"strings"
)

// PowerOff takes the power of a node: at one instant nothing comes from it and
// nothing reaches it any more, its processes die without a word, every cable
// to it loses carrier, and the kernel's state (addresses, routes, firewall,
// connections) is gone. Its folder stays, except for RunDir.
func (s *Site) PowerOff(name string) error {
	n := s.Node(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !n.on() {
		return fmt.Errorf("power off %s: it is off", name)
	}
	n.dark.Store(true)
	if err := s.applyDrops(); err != nil {
		return fmt.Errorf("power off %s: %w", name, err)
	}
	if err := killAllIn(n.namespacePath()); err != nil {
		return fmt.Errorf("power off %s: %w", name, err)
	}
	s.watch.remove(n, Now())
	var unwire strings.Builder
	for _, p := range n.ports {
		if err := s.carry(p.segment); err != nil {
			return fmt.Errorf("power off %s: %w", name, err)
		}
		fmt.Fprintf(&unwire, "link del %s\n", p.peer)
	}
	if err := s.sw.IP(unwire.String()); err != nil {
		return fmt.Errorf("power off %s: %w", name, err)
	}
	n.shut()
	if err := ipBatch("netns del " + n.Namespace() + "\n"); err != nil {
		return fmt.Errorf("power off %s: %w", name, err)
	}
	return os.RemoveAll(n.RunDir())
}

// PowerOn boots a node that was switched off: a fresh kernel with the permanent
// addresses only, and its cables as they are plugged. Nothing is started.
func (s *Site) PowerOn(name string) error {
	n := s.Node(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.on() {
		return fmt.Errorf("power on %s: it is on", name)
	}
	n.dark.Store(false)
	if err := s.bring(n); err != nil {
		return fmt.Errorf("power on %s: %w", name, err)
	}
	if err := s.applyDrops(); err != nil {
		return fmt.Errorf("power on %s: %w", name, err)
	}
	if n.Kind == KindRouter {
		if err := s.watch.add(n); err != nil {
			return fmt.Errorf("power on %s: %w", name, err)
		}
	}
	for _, c := range s.captures {
		if c.port.Node == n {
			if err := c.bind(); err != nil {
				return fmt.Errorf("power on %s: %w", name, err)
			}
		}
	}
	return nil
}
