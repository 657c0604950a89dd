package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestMain is the executable that Command starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Verb {
		code, err := Become(os.Args[2:])
		fmt.Fprintln(os.Stderr, err)
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// report is a program that tells what it inherited: policy, nice level, lateness,
// protection, ignored signals, locked memory, and a variable.
const report = `set -- $(sed 's/.*) //' /proc/$$/stat)
echo policy ${39} nice ${17}
echo slack $(cat /proc/$$/timerslack_ns)
echo oom $(cat /proc/$$/oom_score_adj)
echo locked $(sed -n 's/^VmLck:[^0-9]*\([0-9]*\).*/\1/p' /proc/$$/status)
echo ignored $(sed -n 's/^SigIgn:[^0-9a-f]*//p' /proc/$$/status)
echo notify $NOTIFY_SOCKET other $OTHER
echo group $([ $(cut -d' ' -f5 /proc/$$/stat) = $$ ] && echo own)`

// TestNothingIsInherited: the thread that starts it has all that the daemon has.
func TestNothingIsInherited(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("OTHER", "stays")
	oom, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan string)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ignored := []os.Signal{unix.SIGPIPE, unix.SIGHUP, unix.Signal(40)}
		signal.Ignore(ignored...)
		defer signal.Reset(ignored...)
		defer os.WriteFile("/proc/self/oom_score_adj", oom, 0)
		err := errors.Join(
			unix.Setpriority(unix.PRIO_PROCESS, 0, -20),
			unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 10}, 0),
			unix.Prctl(unix.PR_SET_TIMERSLACK, 500_000, 0, 0, 0),
			os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0), // less takes a right that not every root has
			unix.Mlockall(unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT),
		)
		defer unix.Munlockall()
		b, runErr := Command(context.Background(), "sh", "-c", report).CombinedOutput()
		if err = errors.Join(err, runErr); err != nil {
			b = append(b, err.Error()...)
		}
		out <- string(b)
	}()
	want := "policy 0 nice 0\nslack 50000\noom 0\nlocked 0\nignored 0000000000000000\nnotify other stays\ngroup own\n"
	if diff := cmp.Diff(want, <-out); diff != "" {
		t.Error(diff)
	}
}

func TestWhatCannotBeStarted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, program string
		code          int
		want          string
	}{
		{"no such program", "no-such-program", NotFound, "start no-such-program: "},
		{"no such file", "/no/such/file", NotFound, "start /no/such/file: "},
		{"a directory", "/etc", NotExecutable, "start /etc: "},
		{"no program", "/etc/passwd", NotExecutable, "start /etc/passwd: "},
		{"its own code", "false", 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, err := Command(context.Background(), c.program).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != c.code || !strings.HasPrefix(string(out), c.want) || c.want == "" && len(out) > 0 {
				t.Errorf("%v, %q, want code %d, %q", err, out, c.code, c.want)
			}
		})
	}
}

// TestEndOfContext: what the program has started ends with it.
func TestEndOfContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := Command(ctx, "sh", "-c", "sleep 600 & echo $!; wait")
	var out bytes.Buffer
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd.Stdout, cmd.Stderr = write, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	b := make([]byte, 32)
	n, err := read.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("it ended by itself")
	}
	// The pipe's end says that nobody has it open any more.
	if _, err := read.Read(b[n:]); err == nil {
		t.Errorf("sleep %s goes on", b[:n])
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("the end took %v", d)
	}
}
