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

// TestTicketIsNotEchoed: on a terminal of its own, which is as before
// afterwards, also when the person gives up.
func TestTicketIsNotEchoed(t *testing.T) {
	for name, v := range map[string]struct{ typed, want string }{
		"typed":    {"swordfish\n", "this is no ticket"},
		"given up": {"swordf\x03", "join was interrupted; nothing is written"},
	} {
		t.Run(name, func(t *testing.T) {
			master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
			must(t, err)
			defer master.Close()
			raw, err := master.SyscallConn()
			must(t, err)
			var n int
			must(t, raw.Control(func(fd uintptr) {
				must(t, unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0))
				n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
			}))
			must(t, err)
			slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
			must(t, err)
			defer slave.Close()
			mode := func() uint32 {
				m, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
				must(t, err)
				return m.Lflag
			}
			before := mode()
			if before&unix.ECHO == 0 {
				t.Fatal("the terminal does not echo to begin with")
			}
			dir := t.TempDir()
			cmd := exec.Command(os.Args[0], "join", "192.0.2.1", "--config", dir+"/c.yaml", "--state-dir", dir)
			cmd.Env = append(os.Environ(), "HAROUTER_AS_PROGRAM=1")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			must(t, cmd.Start())
			defer cmd.Process.Kill()
			must(t, master.SetReadDeadline(time.Now().Add(10*time.Second)))
			var shown bytes.Buffer
			read := func(until string) {
				t.Helper()
				for b := make([]byte, 1000); !strings.Contains(shown.String(), until); {
					n, err := master.Read(b)
					shown.Write(b[:n])
					if err != nil {
						t.Fatalf("%v; shown so far:\n%s", err, shown.String())
					}
				}
			}
			read("ticket (it is not shown): ")
			if mode()&unix.ECHO != 0 {
				t.Error("the terminal echoes")
			}
			_, err = master.WriteString(v.typed)
			must(t, err)
			read(v.want)
			cmd.Wait()
			if strings.Contains(shown.String(), "swordf") {
				t.Errorf("shown:\n%s", shown.String())
			}
			if after := mode(); after != before {
				t.Errorf("the terminal's mode was %#o and is %#o", before, after)
			}
		})
	}
}
