package dataplane

import (
	"context"
	"fmt"
	"time"
)

const (
	lookSoon     = 50 * time.Millisecond  // after an event: more of them are likely
	lookLater    = 250 * time.Millisecond // while somebody fights
	lookSysctls  = 700 * time.Millisecond // most have no events; a look is sixty system calls
	lookAnyway   = 30 * time.Second       // should an event have been missed
	askAgain     = 100 * time.Millisecond // whether this node may repair
	tryAgain     = 5 * time.Second        // what could not be written
	tryRouteSoon = time.Second            // a way over an address that should go
)

// watch is what Run keeps in mind.
type watch struct {
	look    [kinds]time.Time // when to look at a kind; zero: there is no reason
	down    []string         // devices that went down or away since the last look
	fought  kindSet
	told    [kinds]string // the last error that was logged
	waiting time.Time     // since when a route waits for an address to go
}

// at asks for a look no later than t.
func (w *watch) at(kind aspect, t time.Time) {
	if w.look[kind].IsZero() || t.Before(w.look[kind]) {
		w.look[kind] = t
	}
}

func (w *watch) saw(s sighting, now time.Time) {
	w.down = append(w.down, s.down...)
	for kind := range aspect(kinds) {
		if !s.kinds.has(kind) {
			continue
		}
		if w.fought.has(kind) {
			w.at(kind, now.Add(lookLater))
		} else {
			w.at(kind, now.Add(lookSoon))
		}
	}
}

// due takes the kinds whose time has come.
func (w *watch) due(now time.Time) (due kindSet) {
	for kind, t := range w.look {
		if !t.IsZero() && !now.Before(t) {
			due.put(aspect(kind))
			w.look[kind] = time.Time{}
		}
	}
	return due
}

// next is when something is due.
func (w *watch) next() time.Time {
	next := w.look[kindSysctl]
	for _, t := range w.look {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return next
}

func (k *Kernel) String() string { return "dataplane" }

// Run puts back within a second what other programs change of the plan that was
// applied last, until ctx ends; then everything stays as it is. From the sixth
// repair of a kind within a minute on it waits longer and longer between them.
// Without the right to listen it ends with the error.
func (k *Kernel) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	seen := make(chan sighting, 64)
	ended := make(chan error, 1)
	go func() { ended <- k.keepListening(ctx, seen) }()
	listening := true
	defer func() {
		cancel()
		if listening {
			<-ended
		}
	}()
	var w watch
	anyway := time.NewTicker(lookAnyway)
	defer anyway.Stop()
	w.at(kindSysctl, time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(max(time.Until(w.next()), 0))
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			listening = false
			if ctx.Err() != nil {
				return nil
			}
			return err
		case s := <-seen:
			w.saw(s, time.Now())
		case <-k.kick:
			w.at(kindRoute, time.Now())
		case <-anyway.C:
			w.saw(sighting{kinds: allKinds}, time.Now())
		case <-timer.C:
			k.attend(&w)
		}
	}
}

// attend looks at the kinds that are due, and repairs what may be repaired.
func (k *Kernel) attend(w *watch) {
	k.applying.Lock()
	defer k.applying.Unlock()
	now := time.Now()
	due := w.due(now)
	w.at(kindSysctl, now.Add(lookSysctls))
	if k.plan == nil { // the next Apply reads everything
		w.down = nil
		k.endFights(w, allKinds, now)
		return
	}
	if due.has(kindRoute) {
		k.noticeDevices(k.plan)
		for _, device := range w.down {
			k.forget(device)
		}
		w.down = nil
	}
	found, _ := k.pass(k.plan, due, false)
	var repair, clean kindSet
	for kind := range aspect(kinds) {
		d := found[kind]
		switch {
		case !due.has(kind):
		case !OnlySkipped(d.err):
			k.tell(w, kind, d.err)
			w.at(kind, now.Add(tryAgain))
		case !d.change:
			clean.put(kind)
		case len(d.damaged) == 0 || k.mayNow(w, kind, d, now):
			repair.put(kind)
		}
	}
	if repair != 0 {
		k.repair(w, repair, now)
	}
	k.endFights(w, clean, now)
}

// mayNow tells whether damage may be put back now; if it is too often for that,
// it notes when.
func (k *Kernel) mayNow(w *watch, kind aspect, d difference, now time.Time) bool {
	f := &k.fights[kind]
	at, began := f.damaged(now)
	if began {
		k.fought(kind, true, fmt.Sprintf("another program changes %s again and again, %d times within a minute, last: %v; they are put back at growing intervals", kindWords[kind], len(f.past)+1, d))
	}
	if now.Before(at) {
		w.at(kind, at)
		return false
	}
	return true
}

// repair makes the kernel agree, if this node may.
func (k *Kernel) repair(w *watch, which kindSet, now time.Time) {
	may := k.cfg.MayRepair()
	var found [kinds]difference
	if may {
		found, _ = k.pass(k.plan, which, true)
		k.count(found, now)
	}
	for kind := range aspect(kinds) {
		switch {
		case !which.has(kind):
		case may:
			k.judge(w, kind, found[kind].err, now)
		default:
			w.at(kind, now.Add(askAgain))
		}
	}
}

// judge decides when to try again what could not be written.
func (k *Kernel) judge(w *watch, kind aspect, err error, now time.Time) {
	if kind == kindRoute {
		if !isSoon(err) {
			w.waiting = time.Time{}
		} else {
			if w.waiting.IsZero() {
				w.waiting = now
			} else if now.Sub(w.waiting) >= tryRouteSoon {
				k.tell(w, kind, err)
			}
			w.at(kind, now.Add(tryRouteSoon))
			return
		}
	}
	if !OnlySkipped(err) {
		k.tell(w, kind, err)
		w.at(kind, now.Add(tryAgain))
		return
	}
	w.told[kind] = ""
}

// tell logs an error once, not each time.
func (k *Kernel) tell(w *watch, kind aspect, err error) {
	if text := err.Error(); text != w.told[kind] {
		w.told[kind] = text
		k.cfg.Log.Warn("look after what was applied", "kind", kind, "error", err)
	}
}

// endFights ends the fights that are over: a kind that was found clean, some
// time after its last repair. The others are looked at when they may be.
func (k *Kernel) endFights(w *watch, clean kindSet, now time.Time) {
	w.fought = 0
	for kind := range aspect(kinds) {
		f := &k.fights[kind]
		switch over := f.overAt(); {
		case !f.on():
			continue
		case k.plan == nil, clean.has(kind) && !now.Before(over):
			f.end()
			k.fought(kind, false, "no other program changes "+kindWords[kind]+" any more")
			continue
		case now.Before(over):
			w.at(kind, over)
		}
		w.fought.put(kind)
	}
}

func (k *Kernel) fought(kind aspect, on bool, text string) {
	if on {
		k.cfg.Log.Warn(text)
	} else {
		k.cfg.Log.Info(text)
	}
	if k.cfg.Fought != nil {
		k.cfg.Fought(kind.String(), on, text)
	}
}
