package netlab

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is everything a client saw.
type Report struct {
	Begin, End Instant
	UDP        []Flow
	Ping       []Flow
	TCP        []Stream
	Fresh      []Attempt // in the order of their start
	// Lag is by how much the sending thread was late at worst: gaps up to this
	// long may be the lab's own, of a machine that was too busy.
	Lag    time.Duration
	Stalls []Stall // of the whole machine
	// Marks are those of Site.Mark.
	Marks map[string]Instant

	isps []ISPSpec
}

// Mark is the moment noted under the name; one that was not noted is a mistake
// in the test, and a panic. "" is the begin.
func (r *Report) Mark(name string) Instant {
	if name == "" {
		return r.Begin
	}
	at, ok := r.Marks[name]
	if !ok {
		panic(fmt.Sprintf("netlab: no mark %q", name))
	}
	return at
}

// GapSince is the longest silence that any UDP flow has felt since the mark.
func (r *Report) GapSince(mark string) time.Duration { return longestGap(r.UDP, r.Mark(mark), 0) }

// GapBetween is GapSince for silences that began before a later mark.
func (r *Report) GapBetween(mark, until string) time.Duration {
	return longestGap(r.UDP, r.Mark(mark), r.Mark(until))
}

// PingGapSince is the longest time without an answer to a ping since the mark.
func (r *Report) PingGapSince(mark string) time.Duration { return longestGap(r.Ping, r.Mark(mark), 0) }

// TCPGapSince is the longest silence of an established TCP flow that sends by
// itself. TCP repeats after 200, 400, 800 ms …, so this is coarse.
func (r *Report) TCPGapSince(mark string) time.Duration {
	var flows []Flow
	for _, s := range r.TCP {
		if s.Mode == Echo && s.Interval > 0 {
			flows = append(flows, s.Flow)
		}
	}
	return longestGap(flows, r.Mark(mark), 0)
}

func longestGap(flows []Flow, from, to Instant) time.Duration {
	var gap time.Duration
	for _, f := range flows {
		gap = max(gap, f.Gap(from, to))
	}
	return gap
}

// LostSince counts UDP questions sent since the mark that were not answered.
func (r *Report) LostSince(mark string) int {
	lost := 0
	for _, f := range r.UDP {
		lost += f.Lost(r.Mark(mark), 0)
	}
	return lost
}

// Survivors counts the TCP flows that lived to the end with every byte in its
// place.
func (r *Report) Survivors() int {
	n := 0
	for _, s := range r.TCP {
		if s.Clean {
			n++
		}
	}
	return n
}

// Renatted lists the UDP flows whose source, as the server saw it, changed
// after the mark: other address (uplink) or other port.
func (r *Report) Renatted(mark string) []Flow {
	var changed []Flow
	for _, f := range r.UDP {
		for i, s := range f.Seen {
			if i > 0 && s.At > r.Mark(mark) {
				changed = append(changed, f)
				break
			}
		}
	}
	return changed
}

// On picks the UDP flows whose source lay in that ISP's network at the mark.
func (r *Report) On(isp, mark string) []Flow {
	var on []Flow
	for _, f := range r.UDP {
		var at netip.AddrPort
		for _, s := range f.Seen {
			if s.At <= r.Mark(mark) || !at.IsValid() {
				at = s.From
			}
		}
		if at.IsValid() && ispOf(r.isps, at.Addr()) == isp {
			on = append(on, f)
		}
	}
	return on
}

// FreshByISP counts the fresh connections that began in [from, to) and worked
// by the ISP that they took; to = 0 is the end.
func (r *Report) FreshByISP(from, to Instant) map[string]int {
	counts := map[string]int{}
	for _, a := range r.Fresh {
		if a.OK && a.Start >= from && (to == 0 || a.Start < to) {
			counts[ispOf(r.isps, a.Seen.Addr())]++
		}
	}
	return counts
}

// FreshFailedSince counts the fresh connections begun since the mark that failed.
func (r *Report) FreshFailedSince(mark string) int {
	failed := 0
	for _, a := range r.Fresh {
		if a.Start >= r.Mark(mark) && !a.OK {
			failed++
		}
	}
	return failed
}

// FreshAgain tells how long after the mark fresh connections worked again: the
// start of the first one that opens a whole second without a failure (as in
// research/baseline-netispbalance.md). It is 0 if none failed since the mark,
// and false if the record ends before such a second does.
func (r *Report) FreshAgain(mark string) (time.Duration, bool) {
	since := r.Mark(mark)
	if r.FreshFailedSince(mark) == 0 {
		return 0, true
	}
	var good *Attempt
	for i := range r.Fresh {
		a := &r.Fresh[i]
		switch {
		case a.Start < since:
		case !a.OK:
			good = nil
		case good == nil:
			good = a
		case a.Start.Sub(good.Start) >= time.Second:
			return good.Start.Sub(since), true
		}
	}
	return 0, false
}

// Window is a run of fresh connections that failed one after the other.
type Window struct {
	From, To Instant // start of the first that failed, start of the first that worked again (or the end)
	Failed   int
}

// FreshWindows lists the windows of failure.
func (r *Report) FreshWindows() []Window {
	var windows []Window
	open := false
	for _, a := range r.Fresh {
		switch {
		case !a.OK && !open:
			windows = append(windows, Window{From: a.Start, To: r.End, Failed: 1})
			open = true
		case !a.OK:
			windows[len(windows)-1].Failed++
		case open:
			windows[len(windows)-1].To = a.Start
			open = false
		}
	}
	return windows
}

// String is a short table of all that matters, for logs.
func (r *Report) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FLOW\tSENT\tLOST\tGAP\tDELAY\tSOURCES")
	for _, f := range slices.Concat(r.UDP, r.Ping) {
		median, _ := f.Delay()
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", f.Name, len(f.Sent), f.Lost(0, 0), ms(f.Gap(0, 0)), ms(median), sources(f))
	}
	dead := 0
	for _, s := range r.TCP {
		if !s.Clean && dead < 5 {
			dead++
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t\t%s  %s\n", s.Name, len(s.Sent), s.Lost(0, 0), ms(s.Gap(0, 0)), sources(s.Flow), s.Err)
		}
	}
	w.Flush()
	if len(r.TCP) > 0 {
		fmt.Fprintf(&b, "tcp: %d of %d survived, longest gap %s\n", r.Survivors(), len(r.TCP), ms(r.TCPGapSince("")))
	}
	if len(r.Fresh) > 0 {
		fmt.Fprintf(&b, "fresh: %d, %d failed\n", len(r.Fresh), r.FreshFailedSince(""))
		for _, v := range r.FreshWindows() {
			fmt.Fprintf(&b, "  %d failed from %s for %s\n", v.Failed, ms(v.From.Sub(r.Begin)), ms(v.To.Sub(v.From)))
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(r.Marks), func(a, c string) int { return int(r.Marks[a] - r.Marks[c]) }) {
		fmt.Fprintf(&b, "mark %s at %s\n", name, ms(r.Marks[name].Sub(r.Begin)))
	}
	fmt.Fprintf(&b, "lag of the sender at worst %s, longest stall of the machine %s\n", ms(r.Lag), ms(r.StallSince("")))
	return b.String()
}

func sources(f Flow) string {
	var all []string
	for _, s := range f.Seen {
		all = append(all, s.From.String())
	}
	return strings.Join(all, " > ")
}

func ms(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }
