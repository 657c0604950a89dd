package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// term is a terminal with a person before it.
type term struct {
	person, slave *os.File
	shown         bytes.Buffer
}

func newTerm(t *testing.T) *term {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { person.Close() })
	raw, err := person.SyscallConn()
	must(t, err)
	var n int
	must(t, raw.Control(func(fd uintptr) {
		must(t, unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0))
		n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	}))
	must(t, err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { slave.Close() })
	return &term{person: person, slave: slave}
}

// start runs this program at the terminal.
func (p *term) start(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "HAROUTER_AS_PROGRAM=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.slave, p.slave, p.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	must(t, p.person.SetReadDeadline(time.Now().Add(20*time.Second)))
	return cmd
}

// read waits until a text is shown.
func (p *term) read(t *testing.T, until string) {
	t.Helper()
	for b := make([]byte, 1000); !strings.Contains(p.shown.String(), until); {
		n, err := p.person.Read(b)
		p.shown.Write(b[:n])
		if err != nil {
			t.Fatalf("%v; no %q, shown so far:\n%s", err, until, p.shown.String())
		}
	}
}

func (p *term) write(t *testing.T, text string) {
	t.Helper()
	_, err := p.person.WriteString(text)
	must(t, err)
}

// TestTicketIsNotEchoed: on a terminal of its own, which is as before
// afterwards, also when the person gives up.
func TestTicketIsNotEchoed(t *testing.T) {
	for name, v := range map[string]struct{ typed, want string }{
		"typed":    {"swordfish\n", "this is no ticket"},
		"given up": {"swordf\x03", "join was interrupted; nothing is written"},
	} {
		t.Run(name, func(t *testing.T) {
			term := newTerm(t)
			mode := func() uint32 {
				m, err := unix.IoctlGetTermios(int(term.slave.Fd()), unix.TCGETS)
				must(t, err)
				return m.Lflag
			}
			before := mode()
			if before&unix.ECHO == 0 {
				t.Fatal("the terminal does not echo to begin with")
			}
			dir := t.TempDir()
			cmd := term.start(t, "join", "192.0.2.1", "--config", dir+"/c.yaml", "--state-dir", dir)
			term.read(t, "ticket (it is not shown): ")
			if mode()&unix.ECHO != 0 {
				t.Error("the terminal echoes")
			}
			term.write(t, v.typed)
			term.read(t, v.want)
			cmd.Wait()
			if strings.Contains(term.shown.String(), "swordf") {
				t.Errorf("shown:\n%s", term.shown.String())
			}
			if after := mode(); after != before {
				t.Errorf("the terminal's mode was %#o and is %#o", before, after)
			}
		})
	}
}
