package netlab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roleEnv names the role of a process that is this executable started again.
const roleEnv = "HAROUTER_NETLAB_ROLE"

var (
	roles  = map[string]func(ctx context.Context, args []string) error{}
	hooked atomic.Bool
)

func init() {
	roles["client"] = func(context.Context, []string) error { return obey(newClientRole()) }
	roles["server"] = func(context.Context, []string) error { return obey(&serverRole{}) }
}

// Main runs the agent's role and does not return if this process is an agent.
// Programs and tests that use agents call it first thing in main or TestMain.
func Main() {
	hooked.Store(true)
	role := os.Getenv(roleEnv)
	if role == "" {
		return
	}
	os.Unsetenv(roleEnv)
	run, ok := roles[role]
	if !ok {
		fmt.Fprintf(os.Stderr, "netlab: no role %q\n", role)
		os.Exit(2)
	}
	favour()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "netlab %s: %v\n", role, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Role lets StartRole run a function of the caller inside a node: register it
// before Main is called. Its context ends with SIGTERM.
func Role(name string, run func(ctx context.Context, args []string) error) {
	if _, taken := roles[name]; taken {
		panic("netlab: role " + name + " exists")
	}
	roles[name] = run
}

// StartRole starts a registered role in the node, in a process of its own that
// is served before others (nice -15), as all agents are.
func (n *Node) StartRole(label, role string, args ...string) (*Process, error) {
	if roles[role] == nil {
		return nil, fmt.Errorf("start %s on %s: no role %q is registered", label, n.Name, role)
	}
	return n.startSelf(label, role, nil, nil, args...)
}

func (n *Node) startSelf(label, role string, in, out *os.File, args ...string) (*Process, error) {
	if !hooked.Load() {
		// Without the hook the child would be a second run of the tests.
		return nil, fmt.Errorf("start %s on %s: call netlab.Main first in main or TestMain", label, n.Name)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return n.start(label, in, out, []string{roleEnv + "=" + role}, append([]string{self}, args...)...)
}

// favour has the agent served before programs that only burn processor time:
// it is to measure the site, not its own place in the queue.
func favour() {
	// A locked thread that comes back from a system call waits until Go has a P
	// for it: have more of them than goroutines are ever busy at once.
	runtime.GOMAXPROCS(128)
	// A garbage collection stops that thread as well, and has to wait for threads
	// that are not even running. An agent allocates little: collect rarely.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(256 << 20)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range tasks {
		var tid int
		if _, err := fmt.Sscan(t.Name(), &tid); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, -15) // without the right: go on without
		}
	}
}

// agent is the lab's end of the control pipe: a line of JSON each way per call.
type agent struct {
	*Process
	mu      sync.Mutex
	in, out *os.File
	lines   *bufio.Reader
}

type request struct {
	Verb string
	Body json.RawMessage `json:",omitempty"`
}

type response struct {
	Error string          `json:",omitempty"`
	Body  json.RawMessage `json:",omitempty"`
}

func (n *Node) startAgent(label, role string) (*agent, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inW.Close())
	}
	defer outW.Close()
	p, err := n.startSelf(label, role, inR, outW)
	if err != nil {
		return nil, errors.Join(err, inW.Close(), outR.Close())
	}
	a := &agent{Process: p, in: inW, out: outR, lines: bufio.NewReader(outR)}
	n.site.mu.Lock()
	n.site.agents = append(n.site.agents, a)
	n.site.mu.Unlock()
	return a, nil
}

// call asks the agent for something; reply may be nil.
func (a *agent) call(within time.Duration, verb string, body, reply any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	fail := func(err error) error {
		return fmt.Errorf("%s: %s on %s (log %s): %w", verb, a.Label, a.Node.Name, a.Log, err)
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return fail(err)
	}
	line, err := json.Marshal(request{Verb: verb, Body: raw})
	if err != nil {
		return fail(err)
	}
	if _, err := a.in.Write(append(line, '\n')); err != nil {
		return fail(err)
	}
	_ = a.out.SetReadDeadline(time.Now().Add(within)) // pipes can
	line, err = a.lines.ReadBytes('\n')
	if err != nil {
		return fail(err)
	}
	var r response
	if err := json.Unmarshal(line, &r); err != nil {
		return fail(err)
	}
	if r.Error != "" {
		return fail(errors.New(r.Error))
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(r.Body, reply); err != nil {
		return fail(err)
	}
	return nil
}

// dismiss ends the agent: the end of its input tells it to go.
func (a *agent) dismiss() {
	a.in.Close()
	a.out.Close()
	select {
	case <-a.done:
	case <-time.After(200 * time.Millisecond):
		a.kill()
	}
}

// role is the child's side: it answers calls until its input ends.
type role interface {
	// handle does what the verb asks; the answer is sent as JSON.
	handle(verb string, body json.RawMessage) (any, error)
}

// obey serves calls from standard input on standard output.
func obey(r role) error {
	in := bufio.NewReader(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var req request
		if err := json.Unmarshal(line, &req); err != nil {
			return fmt.Errorf("understand %q: %w", strings.TrimSpace(string(line)), err)
		}
		var resp response
		answer, err := r.handle(req.Verb, req.Body)
		if err != nil {
			resp.Error = err.Error()
		} else if resp.Body, err = json.Marshal(answer); err != nil {
			return err
		}
		if err := out.Encode(resp); err != nil {
			return err
		}
		if req.Verb == "detach" && err == nil {
			select {} // a kept site: serve on, without the lab
		}
	}
}
