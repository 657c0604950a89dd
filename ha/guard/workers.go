package guard

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// workers do what may block: the loop never does. Their results are events.
type workers struct {
	ports   Ports
	journal *journal
	wake    int            // eventfd that the loop polls
	results chan event     // read by the loop
	heard   chan Heard     // the first valid advert is enough
	removal chan []Address // for the remover
	sending chan farewell  // for the sender
	opening chan []Frame   // for the sender: the newest is enough
	quiet   func()         // ends the listening
}

func startWorkers(p Ports, j *journal) (*workers, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	w := &workers{
		ports: p, journal: j, wake: wake,
		results: make(chan event, 16),
		heard:   make(chan Heard, 1),
		removal: make(chan []Address, 1),
		sending: make(chan farewell, 1),
		opening: make(chan []Frame, 1),
		quiet:   func() {},
	}
	go w.remover()
	go w.sender()
	return w, nil
}

func (w *workers) remover() {
	for addresses := range w.removal {
		w.post(removed{Err: w.ports.Remove(addresses)})
	}
}

// sender is not the remover: whichever of the two blocks, the other is done.
func (w *workers) sender() {
	for {
		select {
		case f := <-w.sending:
			w.post(sent{Err: errors.Join(w.ports.tell(f.Words), w.ports.Send(f.Frames))})
		case frames := <-w.opening:
			if err := w.ports.Open(frames); err != nil {
				w.journal.warn("make ready for the farewell", "err", err)
			}
		}
	}
}

// open makes ready for frames, soon.
func (w *workers) open(frames []Frame) {
	if w.ports.Open == nil {
		return
	}
	select {
	case <-w.opening:
	default:
	}
	w.opening <- frames
}

// listen starts to hear; only valid adverts reach the loop, so that garbage
// neither wakes it nor takes an advert's place in the queue.
func (w *workers) listen(s State) {
	w.quiet()
	ctx, cancel := context.WithCancel(context.Background())
	w.quiet = cancel
	go func() {
		pause := 50 * time.Millisecond
		for ctx.Err() == nil {
			err := w.ports.Listen(ctx, s.Devices, s.Local, func(h Heard) {
				if ctx.Err() != nil || !s.valid(h) {
					return
				}
				select {
				case w.heard <- h:
					w.ring()
				default:
				}
			})
			if ctx.Err() != nil {
				return
			}
			w.journal.warn("listen for adverts: again", "err", err, "in", pause)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, time.Second)
		}
	}()
}

func (w *workers) post(ev event) {
	w.results <- ev
	w.ring()
}

func (w *workers) ring() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(w.wake, one[:]) // full means rung already
}

// next returns one event that waits, or nil.
func (w *workers) next() event {
	select {
	case ev := <-w.results:
		return ev
	case h := <-w.heard:
		return heard{Heard: h}
	default:
		return nil
	}
}
