package child

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// usualSlack is how late the kernel may wake a thread unless it is told
// otherwise, nanoseconds.
const usualSlack = 50_000

// Signals of real time, some of which a C library ignores for its own ends.
const (
	firstRealTime uintptr = 32
	lastSignal    uintptr = 64
)

// managers are variables by which a program could speak to the service manager
// in the name of the daemon.
var managers = []string{"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}

// Become makes this process an ordinary one and then the program in words[0]. It
// returns only if that fails, with the exit code for it.
func Become(words []string) (code int, err error) {
	if len(words) == 0 {
		return NotFound, errors.New("start a program: none is named")
	}
	runtime.LockOSThread() // its attributes are what exec keeps
	if err := calmDown(); err != nil {
		return NotExecutable, fmt.Errorf("start %s: %w", words[0], err)
	}
	path, err := exec.LookPath(words[0])
	if err == nil {
		err = syscall.Exec(path, words, environment(os.Environ()))
	}
	code = NotExecutable
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		code = NotFound
	}
	return code, fmt.Errorf("start %s: %w", words[0], err)
}

// calmDown takes back what the daemon has given itself. None of it takes a right.
func calmDown() error {
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0); err != nil {
		return fmt.Errorf("end the real-time priority: %w", err)
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 0); err != nil {
		return fmt.Errorf("set nice 0: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, usualSlack, 0, 0, 0); err != nil {
		return fmt.Errorf("set the lateness of timers: %w", err)
	}
	// In a container that is less than the daemon was given it may be refused.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("end the protection from the out-of-memory killer: %w", err)
	}
	// What is handled ends with exec, what is ignored does not.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGPIPE, unix.SIGTERM)
	for n := firstRealTime; n <= lastSignal; n++ { // of which Go's runtime does not want to hear
		var usual [4]uint64 // struct sigaction of the kernel: SIG_DFL, no flags, empty mask
		if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, n, uintptr(unsafe.Pointer(&usual)), 0, unsafe.Sizeof(uint64(0)), 0, 0); e != 0 {
			return fmt.Errorf("let signal %d do what it does usually: %w", n, e)
		}
	}
	return nil
}

// environment is one without the service manager's variables.
func environment(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(managers, name)
	})
}
