package links

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Rate is what passes through a device.
type Rate struct{ Receive, Transmit float64 } // bit/s

type sample struct {
	at     time.Time
	rx, tx uint64 // bytes
}

type rates struct {
	mu   sync.Mutex // read by whoever shows the status
	now  map[string]Rate
	last map[string]sample
}

func (w *Watcher) sample() {
	w.rates.mu.Lock()
	defer w.rates.mu.Unlock()
	for name := range w.rates.last {
		if !slices.Contains(w.watched.devices, name) {
			delete(w.rates.now, name)
			delete(w.rates.last, name)
		}
	}
	for _, name := range w.watched.devices {
		l, err := w.kernel.LinkByName(name)
		if err != nil || l.Attrs().Statistics == nil {
			delete(w.rates.now, name)
			delete(w.rates.last, name)
			continue
		}
		st := l.Attrs().Statistics
		s := sample{at: time.Now(), rx: st.RxBytes, tx: st.TxBytes}
		if old, ok := w.rates.last[name]; ok && s.rx >= old.rx && s.tx >= old.tx {
			secs := s.at.Sub(old.at).Seconds()
			w.rates.now[name] = Rate{Receive: float64(s.rx-old.rx) * 8 / secs, Transmit: float64(s.tx-old.tx) * 8 / secs}
		}
		w.rates.last[name] = s
	}
}

// Rates returns the rate of each device over the last two seconds.
func (w *Watcher) Rates() map[string]Rate {
	w.rates.mu.Lock()
	defer w.rates.mu.Unlock()
	return maps.Clone(w.rates.now)
}
