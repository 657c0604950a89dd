package guard

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// page is memory that daemon and guard share. A beat is one store into it: no
// system call for the deciding loop, no wake-up of the guard, nothing that
// queues up while one of the two stands still, and the guard reads the very
// last beat at the moment it must decide.
type page struct {
	beatAt *atomic.Int64 // CLOCK_MONOTONIC in ns, written by the daemon
	fences *atomic.Int64 // fences of a hanging daemon so far, written by the guard
	pings  *atomic.Int64 // answered by the guard

	witness *robustList // of the daemon
}

const pageSize = 4096

// newPage makes a page and the file that hands it to the guard process.
func newPage() (*page, *os.File, error) {
	fd, err := unix.MemfdCreate("harouter-guard", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("make the shared page: %w", err)
	}
	f := os.NewFile(uintptr(fd), "harouter-guard")
	if err := f.Truncate(pageSize); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("size the shared page: %w", err)
	}
	p, err := openPage(fd)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return p, f, nil
}

// openPage maps the page behind fd. It is never unmapped: a late Beat must not
// fault, and there is one page per start of a guard.
func openPage(fd int) (*page, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("map the shared page: %w", err)
	}
	if st.Size != pageSize {
		return nil, fmt.Errorf("map the shared page: it has %d bytes, want %d", st.Size, pageSize)
	}
	mem, err := unix.Mmap(fd, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map the shared page: %w", err)
	}
	return &page{
		beatAt:  (*atomic.Int64)(unsafe.Pointer(&mem[0])),
		fences:  (*atomic.Int64)(unsafe.Pointer(&mem[64])),
		pings:   (*atomic.Int64)(unsafe.Pointer(&mem[96])),
		witness: (*robustList)(unsafe.Pointer(&mem[128])),
	}, nil
}

func (p *page) beat()                   { p.beatAt.Store(int64(monotonic())) }
func (p *page) lastBeat() time.Duration { return time.Duration(p.beatAt.Load()) }

// monotonic reads CLOCK_MONOTONIC, which is one clock for both processes and
// does not follow the wall clock.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(fmt.Sprintf("read CLOCK_MONOTONIC: %v", err)) // cannot fail on Linux
	}
	return time.Duration(ts.Nano())
}
