package netlab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a program that the lab started in a node.
type Process struct {
	Node    *Node
	Label   string
	PID     int    // of the program itself, not of a wrapper
	Log     string // file with its standard output and error
	Started Instant

	cmd  *exec.Cmd
	done chan struct{}
	exit error
	// ended is valid once done is closed.
	ended Instant
}

// Start runs a program in the node, in its own process group, in the node's
// folder, with its output appended to LABEL.log there. It is killed with the
// site at the latest; it does not end with the lab's own process, so that a
// site can be kept.
func (n *Node) Start(label string, argv ...string) (*Process, error) {
	return n.start(label, nil, nil, nil, argv...)
}

// start takes files for the program's standard input and output, or nil, and
// additions to its environment.
func (n *Node) start(label string, in, out *os.File, env []string, argv ...string) (*Process, error) {
	fail := func(err error) (*Process, error) {
		return nil, fmt.Errorf("start %s on %s: %w", label, n.Name, err)
	}
	if !n.on() {
		return fail(errors.New("the node is powered off"))
	}
	ip, err := tool("ip")
	if err != nil {
		return fail(err)
	}
	p := &Process{Node: n, Label: label, Log: filepath.Join(n.Dir(), label+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fail(err)
	}
	defer log.Close()
	// ip sets the namespace up, /sys included, and becomes the program.
	p.cmd = exec.Command(ip, append([]string{"netns", "exec", n.Namespace()}, argv...)...)
	p.cmd.Dir = n.Dir()
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if in != nil {
		p.cmd.Stdin = in
	}
	if out != nil {
		p.cmd.Stdout = out
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.Started = Now()
	if err := p.cmd.Start(); err != nil {
		return fail(err)
	}
	p.PID = p.cmd.Process.Pid
	n.site.mu.Lock()
	n.site.processes = append(n.site.processes, p)
	n.site.mu.Unlock()
	go func() {
		p.exit = p.cmd.Wait()
		p.ended = Now()
		close(p.done)
	}()
	p.settle(ip)
	return p, nil
}

// settle waits the two milliseconds until ip has become the program: a signal
// is to reach that, and nothing of the site's is to be outside its namespaces.
func (p *Process) settle(ip string) {
	wrapper := []byte(ip + "\x00netns\x00exec\x00")
	_ = WaitFor("the program", time.Second, func() bool {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
		return err != nil || !bytes.HasPrefix(line, wrapper)
	})
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the program alone, not to its children.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return fmt.Errorf("send %s to %s on %s: it has ended", sig, p.Label, p.Node.Name)
	default:
	}
	if err := unix.Kill(p.PID, sig); err != nil {
		return fmt.Errorf("send %s to %s on %s: %w", sig, p.Label, p.Node.Name, err)
	}
	return nil
}

// Kill sends SIGKILL and waits until the program is gone.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Stop sends SIGTERM and returns the exit code; a program that has not ended
// within the grace is killed, which is an error.
func (p *Process) Stop(grace time.Duration) (int, error) {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return -1, err
	}
	return p.Wait(grace)
}

// Wait waits for the program to end by itself and returns its exit code (-1:
// by a signal). It is killed if that takes longer, which is an error.
func (p *Process) Wait(within time.Duration) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(within):
		p.kill()
		<-p.done
		return -1, fmt.Errorf("wait for %s on %s: still running after %s, killed", p.Label, p.Node.Name, within)
	}
}

// Ended is when the program ended; 0 if it still runs.
func (p *Process) Ended() Instant {
	select {
	case <-p.done:
		return p.ended
	default:
		return 0
	}
}

// kill is Kill without waiting, for one that may be gone already.
func (p *Process) kill() {
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Kill() // os knows when the pid is no longer its own
	}
}
