package child

import (
	"context"
	"os/exec"
	"syscall"
	"time"
)

// Verb is the hidden verb of the executable that calls Become with the words
// that follow it.
const Verb = "child-process"

// Exit codes of a program that could not be started, as of a shell.
const (
	NotExecutable = 126
	NotFound      = 127
)

// pipesLimit is how long Wait waits for the output of what the program has
// started, once it has ended itself.
const pipesLimit = time.Second

// Command is exec.CommandContext for a program that runs as an ordinary process,
// in a group of its own. The end of ctx kills the whole group. One that is not
// there, or cannot be started, ends with NotFound or NotExecutable and says why
// on its standard error. The environment is that of this process as long as Env
// is nil.
func Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	// This very program, also after an upgrade has put another at its path.
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{Verb, program}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipesLimit
	return cmd
}
