package peer

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// overslept is a socket of a process that stood still: its deadline is over,
// and what came meanwhile has still to be read.
type overslept struct {
	net.Conn
	reads int
	came  bool
}

func (*overslept) SetReadDeadline(time.Time) error { return nil }
func (o *overslept) Read(b []byte) (int, error) {
	if o.reads++; o.reads == 2 && o.came {
		return 1, nil
	}
	return 0, os.ErrDeadlineExceeded
}

func TestSilenceIsLookedAtTwice(t *testing.T) {
	for name, came := range map[string]bool{"it came meanwhile": true, "nothing came": false} {
		t.Run(name, func(t *testing.T) {
			c := &steady{Conn: &overslept{came: came}}
			c.on.Store(true)
			n, err := c.Read(make([]byte, 10))
			if came && (n != 1 || err != nil) {
				t.Errorf("%d bytes, error %v", n, err)
			}
			if f, ok := errors.AsType[*fault](err); !came && (!ok || f.reason != ReasonTimeout) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestLinger: frames that come one after the other share records, 5,000 of
// them a second at most, and the first does not wait.
func TestLinger(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair()
		bothUp(t, r1, r2)
		time.Sleep(10 * time.Millisecond)
		begin := time.Now()
		var at []time.Duration
		for i := range 10 {
			r1.Send("r2", []byte{byte(i)})
			synctest.Wait()
			for len(at) < r2.taken() {
				at = append(at, time.Since(begin))
			}
			time.Sleep(50 * time.Microsecond)
		}
		if len(at) < 8 || at[0] != 0 || at[1] != linger || at[3] != linger || at[6] != 2*linger {
			t.Errorf("frames came after %v", at)
		}
	})
}

func TestPacer(t *testing.T) {
	pause, end := pace()
	defer end()
	for range 5 {
		begin := time.Now()
		pause(300 * time.Microsecond)
		if took := time.Since(begin); took < 300*time.Microsecond || took > 100*time.Millisecond {
			t.Errorf("300 µs took %v", took)
		}
	}
}
