package standin

import (
	"slices"
	"sync"

	"harouter/ha"
)

// Reports are the events that were reported so far.
type Reports struct {
	mu  sync.Mutex
	all []ha.Event
}

// Add takes one; it may be called from anywhere.
func (r *Reports) Add(ev ha.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, ev)
}

// Has tells whether there is one of which ok says yes.
func (r *Reports) Has(ok func(ha.Event) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.all, ok)
}

// Forget lets the next ones be the first.
func (r *Reports) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = nil
}
