package traffic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
)

const head = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
`

func device(name string, received, sent uint64) string {
	return fmt.Sprintf("%6s: %d 1 2 3 4 5 6 7 %d 1 2 3 4 5 6 7\n", name, received, sent)
}

func TestWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var reports []map[string]balancer.Load
		w := New(Config{
			Devices: map[string]string{"cable": "wan1", "dsl": "wan2"}, Quick: true, Log: slog.New(slog.DiscardHandler),
			Report: func(l map[string]balancer.Load) { reports = append(reports, l) },
		})
		broken := false
		w.read = func() ([]byte, error) {
			if broken {
				return nil, errors.New("no file")
			}
			ms := uint64(time.Since(began).Milliseconds())
			// wan1 carries 8 Mbit/s down and 800 kbit/s up; wan2 is not there.
			return []byte(head + device("lo", 1, 1) + device("wan1", 1000*ms, 100*ms)), nil
		}
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(1100 * time.Millisecond)
		load := map[string]balancer.Load{"cable": {Down: 8e6, Up: 8e5}}
		if d := cmp.Diff([]map[string]balancer.Load{load, load}, reports); d != "" {
			t.Errorf("reports (-want +got):\n%s", d)
		}
		if d := cmp.Diff(load, w.Rates()); d != "" {
			t.Errorf("rates (-want +got):\n%s", d)
		}
		broken = true
		time.Sleep(time.Second)
		broken = false
		w.Configure(map[string]string{"dsl": "wan1"}, false) // cable is gone, dsl has its device
		reports = nil
		time.Sleep(5 * time.Second)
		if d := cmp.Diff(map[string]balancer.Load{"dsl": {Down: 8e6, Up: 8e5}}, w.Rates()); d != "" || len(reports) > 0 {
			t.Errorf("after another file there are %d reports, and the rates (-want +got):\n%s", len(reports), d)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestCountersThatStartAnew: a device that was made anew has no rate yet.
func TestCountersThatStartAnew(t *testing.T) {
	var got []map[string]balancer.Load
	w := New(Config{Devices: map[string]string{"cable": "wan1"}, Quick: true, Report: func(l map[string]balancer.Load) { got = append(got, l) }})
	now := time.Now()
	for i, c := range []uint64{1_000_000, 1_062_500, 500, 63_000} {
		if err := w.sample([]byte(device("wan1", c, c)), now.Add(time.Duration(i)*500*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	one := map[string]balancer.Load{"cable": {Down: 1e6, Up: 1e6}}
	if d := cmp.Diff([]map[string]balancer.Load{one, one}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head + device("eth0", 1, 2) + device("eth0:1", 1<<63, 3)))
	f.Add([]byte("eth0: 1 2\n"))
	f.Add([]byte("eth0: x 1 2 3 4 5 6 7 8 1 2 3 4 5 6 7\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		of, err := parse(text)
		if err != nil {
			return
		}
		for name, c := range of {
			again, err := parse([]byte(device(name, c.received, c.sent)))
			if err != nil || again[name] != c {
				t.Errorf("%q %v became %v %v", name, c, again, err)
			}
		}
	})
}
