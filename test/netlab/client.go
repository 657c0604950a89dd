package netlab

import (
	"encoding/gob"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Client is a load that runs on a node.
type Client struct {
	agent *agent
	load  Load
}

// Snapshot is what a running client can tell at once.
type Snapshot struct {
	At Instant
	// Silent is for how long the UDP flow that waits longest has had no answer.
	UDPSent, UDPEchoed int
	Silent             time.Duration
	PingSilent         time.Duration // the same of the pings
	TCPAlive, TCP      int           // connections without an error, and all
	FreshOK            int
	FreshFailed        int
	// Uplinks counts by address which source the server saw of the UDP flows last.
	Uplinks map[netip.Addr]int
}

// Load starts traffic on a node. It returns when every TCP flow is established
// and every UDP flow has had its first answer, or with an error after 5 s.
func (s *Site) Load(node string, load Load) (*Client, error) {
	n := s.Node(node)
	a, err := n.startAgent(fmt.Sprintf("client%d", s.agentNumber()), "client")
	if err != nil {
		return nil, err
	}
	if load.Drain == 0 {
		load.Drain = time.Second
	}
	c := &Client{agent: a, load: load}
	if err := a.call(10*time.Second, "start", load, nil); err != nil {
		a.dismiss()
		return nil, err
	}
	return c, nil
}

// Snapshot asks for the state of things now.
func (c *Client) Snapshot() (Snapshot, error) {
	var s Snapshot
	return s, c.agent.call(5*time.Second, "snapshot", nil, &s)
}

// Poke has every idle TCP flow send one message and waits until all have come
// back; flows that do not answer within the time are in the error.
func (c *Client) Poke(within time.Duration) error {
	return c.agent.call(within+5*time.Second, "poke", within, nil)
}

// Stop ends the load, waits for what is under way, closes all connections in
// good order and returns everything that was seen.
func (c *Client) Stop() (*Report, error) {
	file := filepath.Join(c.agent.Node.Dir(), c.agent.Label+".report")
	if err := c.agent.call(c.load.Drain+10*time.Second, "stop", file, nil); err != nil {
		return nil, err
	}
	c.agent.dismiss()
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r Report
	if err := gob.NewDecoder(f).Decode(&r); err != nil {
		return nil, fmt.Errorf("read report of %s: %w", c.agent.Label, err)
	}
	site := c.agent.Node.site
	r.Marks, r.isps = site.Marks(), site.Spec.ISPs
	return &r, nil
}

// Server is an echo server that runs on a node.
type Server struct{ agent *agent }

// Serve starts the echo server on a node: UDP and TCP on EchoPort of each of
// the addresses; without any on all addresses of the node, which suits hosts
// with one. It tells each client the source it sees.
func (s *Site) Serve(node string, addrs ...netip.Addr) (*Server, error) {
	n := s.Node(node)
	a, err := n.startAgent(fmt.Sprintf("server%d", s.agentNumber()), "server")
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 && n.Kind == KindInternet {
		addrs = s.Spec.Servers
	}
	if len(addrs) == 0 {
		addrs = []netip.Addr{netip.IPv4Unspecified()}
	}
	if err := a.call(5*time.Second, "start", addrs, nil); err != nil {
		a.dismiss()
		return nil, err
	}
	return &Server{agent: a}, nil
}

// Stop ends the server; its connections are closed with it.
func (s *Server) Stop() { s.agent.dismiss() }

// detach lets servers run on without the lab.
func (s *Site) detach() {
	s.mu.Lock()
	agents := s.agents
	s.mu.Unlock()
	for _, a := range agents {
		if a.call(time.Second, "detach", nil, nil) == nil {
			s.forget(a)
		}
	}
}

func (s *Site) forget(a *agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rest []*agent
	for _, b := range s.agents {
		if a != b {
			rest = append(rest, b)
		}
	}
	s.agents = rest
}

// agentNumber makes the labels of agents, and so their files, distinct.
func (s *Site) agentNumber() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agentsMade++
	return s.agentsMade
}
