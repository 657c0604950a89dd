package netlab

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// A wallClock is code that takes the place of the vDSO's clock_gettime: it asks
// the kernel, and adds the 8 bytes behind it to the seconds of CLOCK_REALTIME.
var wallClocks = map[string][]byte{
	"amd64": {
		0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi
		0x75, 0x0a, // jne to ret
		0x48, 0x8b, 0x0d, 0x06, 0x00, 0x00, 0x00, // mov rcx, [the 8 bytes]
		0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3, // ret
		0x90, 0x90,
	},
	"arm64": {
		0xe9, 0x03, 0x00, 0xaa, // mov x9, x0
		0x28, 0x0e, 0x80, 0xd2, // mov x8, 113
		0x01, 0x00, 0x00, 0xd4, // svc 0
		0xa9, 0x00, 0x00, 0xb5, // cbnz x9, to ret
		0xca, 0x00, 0x00, 0x58, // ldr x10, [the 8 bytes]
		0x2b, 0x00, 0x40, 0xf9, // ldr x11, [x1]
		0x6b, 0x01, 0x0a, 0x8b, // add x11, x11, x10
		0x2b, 0x00, 0x00, 0xf9, // str x11, [x1]
		0xc0, 0x03, 0x5f, 0xd6, // ret
		0x1f, 0x20, 0x03, 0xd5, // nop
	},
}

// JumpClock sets the wall clock of the node's processes, which are Go programs
// without cgo, by d off that of the machine, whole seconds; 0 is right again. The
// monotonic clock and what the kernel itself stamps go on.
func (n *Node) JumpClock(d time.Duration) error {
	running, err := n.Processes()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range running {
		if err := jumpClock(r.PID, d); err != nil {
			errs = append(errs, fmt.Errorf("set the clock of %d (%s) in %s: %w", r.PID, r.Args, n.Name, err))
		}
	}
	return errors.Join(errs...)
}

// jumpClock puts our code at the end of the process's copy of the vDSO, where
// nothing is, and turns to it the variable in which the Go runtime remembers where
// clock_gettime is. That is one word: who reads the clock meanwhile reads either.
func jumpClock(pid int, d time.Duration) error {
	code := wallClocks[runtime.GOARCH]
	if code == nil {
		return fmt.Errorf("no clock for %s", runtime.GOARCH)
	}
	vdso, data, err := mappings(pid)
	if err != nil {
		return err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	image := make([]byte, vdso[1]-vdso[0])
	if _, err := mem.ReadAt(image, vdso[0]); err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	entry, err := clockGettime(image)
	if err != nil {
		return err
	}
	offset := binary.NativeEndian.AppendUint64(nil, uint64(int64(d/time.Second)))
	end := len(image) - len(code) - len(offset)
	at := vdso[0] + int64(end)
	if bytes.Equal(image[end:end+len(code)], code) { // not the first jump
		_, err := mem.WriteAt(offset, at+int64(len(code)))
		return err
	}
	if len(bytes.Trim(image[end:], "\x00")) > 0 {
		return errors.New("no room in the vDSO")
	}
	if _, err := mem.WriteAt(append(bytes.Clone(code), offset...), at); err != nil {
		return fmt.Errorf("write to the vDSO: %w", err)
	}
	old := binary.NativeEndian.AppendUint64(nil, uint64(vdso[0])+entry)
	found := 0
	for _, m := range data {
		text := make([]byte, m[1]-m[0])
		if _, err := mem.ReadAt(text, m[0]); err != nil {
			return fmt.Errorf("read the variables: %w", err)
		}
		for i := 0; i+8 <= len(text); i += 8 {
			if !bytes.Equal(text[i:i+8], old) {
				continue
			}
			if _, err := mem.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(at)), m[0]+int64(i)); err != nil {
				return fmt.Errorf("write the variable: %w", err)
			}
			found++
		}
	}
	if found == 0 {
		return errors.New("nothing in it points to clock_gettime: not a Go program?")
	}
	return nil
}

// mappings is where the vDSO of a process is, and the variables of its program.
func mappings(pid int) (vdso [2]int64, data [][2]int64, err error) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return vdso, nil, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return vdso, nil, err
	}
	var programEnd int64
	for line := range strings.Lines(string(text)) {
		f := append(strings.Fields(line), "") // range, rights, offset, device, inode, name
		name := f[5]
		if name == "[vsyscall]" {
			continue // the kernel's, and beyond what a file offset can tell
		}
		var m [2]int64
		if _, err := fmt.Sscanf(f[0], "%x-%x", &m[0], &m[1]); err != nil {
			return vdso, nil, fmt.Errorf("parse %q: %w", line, err)
		}
		switch {
		case name == "[vdso]":
			vdso = m
			continue
		case name == exe, name == "" && m[0] == programEnd: // the second: what has no initial value
			programEnd = m[1]
		default:
			continue
		}
		if strings.HasPrefix(f[1], "rw") {
			data = append(data, m)
		}
	}
	if vdso[1] == 0 {
		return vdso, nil, errors.New("it has no vDSO")
	}
	return vdso, data, nil
}

// clockGettime is where in the vDSO the function is that Go asks.
func clockGettime(image []byte) (uint64, error) {
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("parse the vDSO: %w", err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("parse the vDSO: %w", err)
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" || s.Name == "__kernel_clock_gettime" { // the second: arm64
			return s.Value, nil
		}
	}
	return 0, errors.New("no clock_gettime in the vDSO")
}
