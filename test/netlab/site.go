package netlab

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Site is a built Spec.
type Site struct {
	Prefix string // of all its namespaces: hr-8250-1c3f9x1
	Dir    string // of all its files
	Spec   Spec

	nodes    []*Node
	segments []*segment
	sw       *Node
	thread   *thread
	watch    *Watch

	// mu guards carriers, drops, power, emulators and the lists below.
	mu         sync.Mutex
	links      *netlink.Handle // in the switch's namespace
	index      int             // interface indexes handed out
	taps       int             // emulators made
	agentsMade int
	marks      map[string]Instant
	processes  []*Process
	agents     []*agent
	captures   []*Capture
	emulators  []*Emulator
	closing    sync.Once
	closed     error
}

// New builds a site. The caller closes it; so does a SIGINT or SIGTERM, after
// which the process ends as that signal would end it. What dead runs left
// behind is swept first.
func New(spec Spec) (*Site, error) {
	if err := ready(); err != nil {
		return nil, err
	}
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("build a site: %w", err)
	}
	if _, err := Sweep(); err != nil {
		return nil, fmt.Errorf("sweep old sites: %w", err)
	}
	prefix, err := newPrefix()
	if err != nil {
		return nil, fmt.Errorf("name a site: %w", err)
	}
	s := &Site{Prefix: prefix, Dir: filepath.Join(siteRoot(), prefix), Spec: spec, marks: map[string]Instant{}}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("build a site: %w", err)
	}
	s.thread = newThread()
	enlist(s)
	if err := s.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("build site %s: %w", prefix, err), s.Close())
	}
	return s, nil
}

func (s *Site) build() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = draw(s, s.Spec)
	s.sw = s.nodes[0]
	seen := map[*segment]bool{}
	for _, n := range s.nodes {
		for _, p := range n.ports {
			if !seen[p.segment] {
				seen[p.segment] = true
				s.segments = append(s.segments, p.segment)
			}
		}
	}
	if s.watch, err = newWatch(); err != nil {
		return err
	}
	if err := s.bring(s.sw); err != nil {
		return err
	}
	if err := s.openLinks(); err != nil {
		return err
	}
	if err := s.bridges(); err != nil {
		return err
	}
	if err := s.bring(s.nodes[1:]...); err != nil {
		return err
	}
	for _, n := range s.nodes {
		if n.Kind == KindRouter {
			if err := s.watch.add(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close ends everything of the site: agents, processes, namespaces, files.
// It may be called twice.
func (s *Site) Close() error {
	s.closing.Do(func() { s.closed = s.close() })
	return s.closed
}

func (s *Site) close() error {
	s.hush()
	s.mu.Lock()
	processes := s.processes
	s.mu.Unlock()
	for _, p := range processes {
		p.kill()
	}
	err := Remove(s.Prefix)
	for _, p := range processes {
		<-p.done
	}
	s.release()
	return err
}

// hush stops what this process does for the site: agents, captures, emulators.
func (s *Site) hush() {
	s.mu.Lock()
	agents, captures, emulators := s.agents, s.captures, s.emulators
	s.agents, s.captures = nil, nil
	s.mu.Unlock()
	for _, a := range agents {
		a.dismiss()
	}
	for _, c := range captures {
		c.Close()
	}
	for _, e := range emulators {
		_ = e.Remove() // its site goes down with it
	}
}

// release lets go of the namespaces, so that the kernel can end them.
func (s *Site) release() {
	if s.watch != nil {
		s.watch.close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links != nil {
		s.links.Close()
		s.links = nil
	}
	for _, n := range s.nodes {
		n.shut()
	}
	s.thread.close()
	discharge(s)
}

// Keep leaves the site standing when this process ends, with the processes
// that run in its nodes; agents stop, except for servers, and emulated lines
// become plain ones. It returns the commands to look around in it and, last,
// the one that takes it down. Sweep spares a kept site; Remove does not.
func (s *Site) Keep() ([]string, error) {
	if err := os.WriteFile(keepFile(s.Prefix), nil, 0o644); err != nil {
		return nil, fmt.Errorf("keep site %s: %w", s.Prefix, err)
	}
	s.closing.Do(func() {
		s.detach()
		s.hush()
		s.release()
	})
	var commands []string
	for _, n := range s.nodes[1:] {
		commands = append(commands, "ip netns exec "+n.Namespace()+" bash")
	}
	return append(commands, TakeDown(s.Prefix)), nil
}

// TakeDown is a line of shell that does what Remove does.
func TakeDown(prefix string) string {
	return fmt.Sprintf(`for n in $(ip netns list | grep -o '^%s-[a-z0-9]*'); do ip netns pids $n | xargs -r kill -9; ip netns del $n; done; rm -rf %s`,
		prefix, filepath.Join(siteRoot(), prefix))
}

// Node is the node of that name: routers, ISPs, hosts, "net". One that is not
// there is a mistake in the test, and a panic.
func (s *Site) Node(name string) *Node {
	for _, n := range s.nodes {
		if n.Name == name && n.Kind != KindSwitch {
			return n
		}
	}
	panic(fmt.Sprintf("netlab: no node %q in %s", name, strings.Join(s.names(), ", ")))
}

// Router is Node for a router.
func (s *Site) Router(name string) *Node { return s.kind(name, KindRouter) }

// Host is Node for a host on a LAN.
func (s *Site) Host(name string) *Node { return s.kind(name, KindHost) }

// ISP is Node for an ISP's gateway.
func (s *Site) ISP(name string) *Node { return s.kind(name, KindISP) }

// Port is a shorter Node(node).Port(device).
func (s *Site) Port(node, device string) *Port { return s.Node(node).Port(device) }

func (s *Site) kind(name string, k Kind) *Node {
	n := s.Node(name)
	if n.Kind != k {
		panic(fmt.Sprintf("netlab: %s is a node of kind %s, not %s", name, n.Kind, k))
	}
	return n
}

func (s *Site) names() []string {
	var names []string
	for _, n := range s.nodes[1:] {
		names = append(names, n.Name)
	}
	return names
}

// Nodes are all nodes of the site, switches aside.
func (s *Site) Nodes() []*Node { return append([]*Node(nil), s.nodes[1:]...) }

// Watch tells which router held which address when, since the site was built.
func (s *Site) Watch() *Watch { return s.watch }

// Mark notes the present moment under a name; reports of clients know it.
func (s *Site) Mark(name string) Instant {
	now := Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks[name] = now
	return now
}

// Marks are all marks so far.
func (s *Site) Marks() map[string]Instant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.marks)
}

// openLinks is called when the switch's namespace is there.
func (s *Site) openLinks() error {
	return s.sw.in(func() (err error) {
		s.links, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
}
