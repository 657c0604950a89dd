package kernel

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"harouter/conntracksync"
)

// batch is how many changes go to the kernel in one write: more brings nothing.
const batch = 128

// Injector writes flows into the kernel's table. It is for one goroutine.
type Injector struct {
	fd   int
	port uint32
	seq  uint32
	out  []byte
	in   []byte
	room *Injector // deletes what is in the way: by another port, so that a listener hears of it
}

// Refused is a flow that the kernel did not take, by its place among those given.
type Refused struct {
	Index int
	Err   error
}

// ErrTaken refuses a flow whose answers another one waits for that must stay.
var ErrTaken = errors.New("another flow waits for the same answers")

// NewInjector opens a socket in the network namespace of the calling thread.
func NewInjector() (*Injector, error) {
	i, err := newInjector()
	if err != nil {
		return nil, err
	}
	if i.room, err = newInjector(); err != nil {
		unix.Close(i.fd)
		return nil, err
	}
	return i, nil
}

func newInjector() (*Injector, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open a netfilter socket: %w", err)
	}
	i := &Injector{fd: fd, in: make([]byte, 64<<10)}
	fail := func(what string, err error) (*Injector, error) {
		unix.Close(fd)
		return nil, fmt.Errorf("%s of a netfilter socket: %w", what, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fail("bind the port", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return fail("read the port", err)
	}
	i.port = name.(*unix.SockaddrNetlink).Pid
	// A refusal need not repeat the request, and 128 of them must find room.
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		return fail("shorten the answers", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20); err != nil {
		return fail("set the buffer", err)
	}
	// The kernel answers within the write; a lost answer must not hang us.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		return fail("set the deadline", err)
	}
	return i, nil
}

// Port is what the kernel puts into the events of the changes that are made
// here (conntracksync.Event.Port), so that a listener can pass over them.
func (i *Injector) Port() uint32 { return i.port }

// Close closes the sockets.
func (i *Injector) Close() error { return errors.Join(unix.Close(i.fd), unix.Close(i.room.fd)) }

// Install makes the flows be in the table as they are given: with their
// translation, mark, status and time left. One that is there already is
// changed if it is translated in the same way, and replaced otherwise. One that
// waits for the same answers gives way, and a listener hears of its end, unless it
// alone of the two lives: then ErrTaken. Those that the kernel refuses are
// returned, the others are done. The nat hook of the translations must be
// registered before (a chain of type nat), or packets pass untranslated.
//
// It costs 2 to 5 µs a flow. ctx is looked at between batches of 128.
func (i *Injector) Install(ctx context.Context, flows []conntracksync.Flow) ([]Refused, error) {
	return i.each(ctx, "install", flows, func(flows []conntracksync.Flow, refuse func(int, error)) error {
		return i.create(flows, true, refuse)
	})
}

// Update changes the time left, mark, status, state and labels of flows that
// are there; one that is not is installed, unless another one is there by the same
// name, of which the kernel has told or is about to, or one with the same answers.
func (i *Injector) Update(ctx context.Context, flows []conntracksync.Flow) ([]Refused, error) {
	return i.each(ctx, "update", flows, i.update)
}

// Delete removes flows. One that is not there, or is translated in another way, is
// fine.
func (i *Injector) Delete(ctx context.Context, flows []conntracksync.Flow) ([]Refused, error) {
	return i.each(ctx, "delete", flows, func(flows []conntracksync.Flow, refuse func(int, error)) error {
		return i.send(flows, msgDelete, 0, appendExact, func(n int, err syscall.Errno) {
			if err != unix.ENOENT {
				refuse(n, err)
			}
		})
	})
}

// SetTimeouts sets only the time that flows have left, and makes TCP liberal with
// the window: what this kernel saw of a flow may be older than what passed another
// node. One that is not there is fine.
func (i *Injector) SetTimeouts(ctx context.Context, flows []conntracksync.Flow) ([]Refused, error) {
	return i.each(ctx, "set the time of", flows, func(flows []conntracksync.Flow, refuse func(int, error)) error {
		return i.send(flows, msgNew, 0, func(b []byte, f *conntracksync.Flow) []byte {
			b = appendUint32(appendExact(b, f), ctaTimeout, f.Timeout)
			return appendLiberal(b, f)
		}, func(n int, err syscall.Errno) {
			if err != unix.ENOENT {
				refuse(n, err)
			}
		})
	})
}

// each does the work in batches.
func (i *Injector) each(ctx context.Context, what string, flows []conntracksync.Flow,
	do func([]conntracksync.Flow, func(int, error)) error) ([]Refused, error) {
	var refused []Refused
	for at := 0; at < len(flows); at += batch {
		if err := ctx.Err(); err != nil {
			return refused, err
		}
		err := do(flows[at:min(at+batch, len(flows))], func(n int, err error) {
			refused = append(refused, Refused{at + n, fmt.Errorf("%s %v: %w", what, flows[at+n].Original, err)})
		})
		if err != nil {
			return refused, fmt.Errorf("%s %d flows: %w", what, len(flows), err)
		}
	}
	return refused, nil
}

// create makes flows; over: also where another one is there by the same name.
func (i *Injector) create(flows []conntracksync.Flow, over bool, refuse func(int, error)) error {
	var there []int
	err := i.send(flows, msgNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, appendCreate, func(n int, err syscall.Errno) {
		switch f := &flows[n]; {
		case err == unix.EEXIST:
			there = append(there, n)
		case f.Helper != "" || f.Master.Source.IsValid():
			there = append(there, n) // without these it may do
		default:
			refuse(n, err)
		}
	})
	if err != nil {
		return err
	}
	for _, n := range there {
		if err := i.replace(flows[n], over); err != nil {
			refuse(n, err)
		}
	}
	return nil
}

// replace installs a flow that could not be created.
func (i *Injector) replace(f conntracksync.Flow, over bool) error {
	old, err := i.get(&f, appendName)
	switch {
	case err != nil && !errors.Is(err, unix.ENOENT):
		return err
	case err == nil && old.Reply == f.Reply:
		return i.change(&f)
	case err == nil && !over:
		return nil
	case err == nil:
		if err := i.one(&f, msgDelete, 0, appendName); err != nil && err != unix.ENOENT {
			return err
		}
	}
	create := func() error { return i.one(&f, msgNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, appendCreate) }
	err = create()
	if err == unix.EEXIST {
		// Another flow waits for the same answers. Here it may have outlived its
		// end, and answers for the one that lives would leave by its uplink.
		other, got := i.get(&f, appendAnswers)
		if got == nil && (!over || f.TCP.State.Over() && !other.TCP.State.Over()) {
			return ErrTaken
		}
		if err = i.room.one(&f, msgDelete, 0, appendAnswers); err == nil || err == unix.ENOENT {
			err = create()
		}
	}
	if err != nil && (f.Helper != "" || f.Master.Source.IsValid()) {
		// Its helper is not loaded here, or its master is gone. What it
		// translates matters more.
		f.Helper, f.Master = "", conntracksync.Tuple{}
		err = create()
	}
	return err
}

func (i *Injector) update(flows []conntracksync.Flow, refuse func(int, error)) error {
	var other []int
	withStatus := func(b []byte, f *conntracksync.Flow) []byte { return appendUpdate(b, f, true) }
	err := i.send(flows, msgNew, 0, withStatus, func(n int, _ syscall.Errno) { other = append(other, n) })
	if err != nil {
		return err
	}
	var missing []conntracksync.Flow
	var at []int
	for _, n := range other {
		switch err := i.change(&flows[n]); err {
		case nil:
		case unix.ENOENT:
			missing, at = append(missing, flows[n]), append(at, n)
		default:
			refuse(n, err)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return i.create(missing, false, func(n int, err error) { refuse(at[n], err) })
}

// change updates one flow. Bits of the status can only be set: where the kernel
// has seen more than we were told, its word stays.
func (i *Injector) change(f *conntracksync.Flow) error {
	for _, status := range []bool{true, false} {
		err := i.one(f, msgNew, 0, func(b []byte, f *conntracksync.Flow) []byte { return appendUpdate(b, f, status) })
		if err != unix.EBUSY || !status {
			return err
		}
	}
	return nil
}

// one makes a single change; its error is a syscall.Errno where the kernel
// refused.
func (i *Injector) one(f *conntracksync.Flow, kind, flags uint16, body func([]byte, *conntracksync.Flow) []byte) error {
	var refused error
	err := i.send([]conntracksync.Flow{*f}, kind, flags, body, func(_ int, err syscall.Errno) { refused = err })
	if err != nil {
		return err
	}
	return refused
}

// get reads a flow by the tuple that name appends.
func (i *Injector) get(f *conntracksync.Flow, name func([]byte, *conntracksync.Flow) []byte) (conntracksync.Flow, error) {
	i.begin()
	b, at := begin(i.out, ofFlow|msgGet, unix.NLM_F_ACK, i.seq, family(f.Original.Source))
	i.out = end(name(b, f), at)
	var found conntracksync.Flow
	var refused error
	err := i.exchange(1, func(b []byte) error { return Parse(b, &found) },
		func(_ int, err syscall.Errno) { refused = err })
	if err != nil {
		return found, err
	}
	return found, refused
}

// send writes one message for each flow in one go, at most batch, and calls
// refused for those that the kernel does not take. The last alone asks for an
// answer; the others are answered when they fail.
func (i *Injector) send(flows []conntracksync.Flow, kind, flags uint16,
	body func([]byte, *conntracksync.Flow) []byte, refused func(int, syscall.Errno)) error {
	i.begin()
	for n := range flows {
		f, more := &flows[n], uint16(0)
		if n == len(flows)-1 {
			more = unix.NLM_F_ACK
		}
		if !f.Original.Source.IsValid() || !f.Original.Destination.IsValid() {
			return fmt.Errorf("flow %v has no addresses", f.Original)
		}
		var at int
		i.out, at = begin(i.out, ofFlow|kind, flags|more, i.seq+uint32(n), family(f.Original.Source))
		i.out = end(body(i.out, f), at)
	}
	return i.exchange(len(flows), func([]byte) error { return nil }, refused)
}

// begin starts a new write.
func (i *Injector) begin() {
	i.seq += batch
	i.out = i.out[:0]
}

// exchange writes what was built and reads the answers up to that of the last
// of n messages.
func (i *Injector) exchange(n int, entry func([]byte) error, refused func(int, syscall.Errno)) error {
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := ignoringEINTR(func() error { return unix.Sendto(i.fd, i.out, 0, to) }); err != nil {
		return fmt.Errorf("send to ctnetlink: %w", err)
	}
	for {
		var got int
		var from unix.Sockaddr
		err := ignoringEINTR(func() (err error) {
			got, _, _, from, err = unix.Recvmsg(i.fd, i.in, nil, 0)
			return err
		})
		if err != nil {
			return fmt.Errorf("read from ctnetlink: %w", err)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue
		}
		done, err := answers(i.in[:got], i.seq, n, entry, refused)
		if done || err != nil {
			return err
		}
	}
}

// answers walks over one datagram of answers to the messages first … first+n-1.
// It is done at the one to the last.
func answers(b []byte, first uint32, n int, entry func([]byte) error, refused func(int, syscall.Errno)) (done bool, err error) {
	for len(b) > 0 {
		if len(b) < sizeHeader {
			return false, fmt.Errorf("read from ctnetlink: %w", errTruncated)
		}
		size := int(native.Uint32(b))
		if size < sizeHeader || size > len(b) {
			return false, fmt.Errorf("read from ctnetlink: %w", errTruncated)
		}
		kind, index, payload := native.Uint16(b[4:]), native.Uint32(b[8:])-first, b[sizeHeader:size]
		b = b[min((size+3)&^3, len(b)):]
		if index >= uint32(n) {
			continue // of an earlier write
		}
		switch kind {
		case unix.NLMSG_ERROR:
			if len(payload) < 4 {
				return false, fmt.Errorf("read from ctnetlink: %w", errTruncated)
			}
			if code := int32(native.Uint32(payload)); code < 0 {
				refused(int(index), syscall.Errno(-code))
			}
			done = done || int(index) == n-1
		case ofFlow | msgNew:
			if err := entry(payload); err != nil {
				return false, err
			}
		}
	}
	return done, nil
}
