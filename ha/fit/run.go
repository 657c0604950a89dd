package fit

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// run is one run of a command.
type run struct {
	began  time.Time
	kill   context.CancelFunc // ends all that the command has started
	done   chan string        // why it was bad, "" it was good; once
	judged bool               // it had its time, or
	// replaced: nobody asks any more.
	replaced bool
}

func (r *Runner) begin(command []string) *run {
	ctx, kill := context.WithCancel(context.Background())
	one := &run{began: time.Now(), kill: kill, done: make(chan string, 1)}
	go func() {
		defer kill()
		var out tail
		cmd := r.start(ctx, command[0], command[1:]...)
		cmd.Stdout, cmd.Stderr = &out, &out
		one.done <- verdict(cmd.Run(), out.line())
	}()
	return one
}

// verdict says why a run was bad, "" if it was good. One that ended well and has
// left something behind that keeps its output open was good.
func verdict(err error, last string) string {
	var exit *exec.ExitError
	text := ""
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return ""
	case !errors.As(err, &exit):
		return err.Error()
	case exit.Exited():
		text = fmt.Sprintf("exit code %d", exit.ExitCode())
	default:
		status, _ := exit.Sys().(syscall.WaitStatus)
		text = "signal " + status.Signal().String()
	}
	if last != "" {
		text += ": " + last
	}
	return text
}
