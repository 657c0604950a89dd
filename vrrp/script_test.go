package vrrp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// script is what happens in a world: its text form has a line for each setting,
// each speaker and each happening.
//
//	election 3 100ms preempt 1s      version, A; preempt with its delay, or keep
//	node r1 200 +9000                priority; drift of the clock in ppm
//	foreign x3 150 +0 1s preempt     the same, its A, preempt or keep
//	1.5s boot r1                     also crash, stop (with a farewell)
//	2s sleep r1 400ms                nothing of it runs, sockets take what comes
//	2s priority r1 120
//	2s interval r1 50ms              a new file there
//	2s cut r1>r2                     that direction
//	2s lose r1>r2 3                  the next 3 adverts
//	2s delay r1>r2 3 35ms            the same, they come that much later
//	2s copy r1>r2 70ms               the next one comes again
//	2s mend r1>r2                    or mend: all
//	9s end
type script struct {
	version    Version
	interval   time.Duration
	preempt    bool
	delay      time.Duration
	speakers   []spec
	happenings []happening
	end        time.Duration
	verbose    bool
}

type spec struct {
	name     string
	foreign  bool
	priority uint8
	drift    int           // of its clock, in millionths
	interval time.Duration // of a foreign one
	preempt  bool          // the same
}

type happening struct {
	at    time.Duration
	what  string
	nodes []int
	n     int
	d     time.Duration
	text  string
}

func (h happening) String() string { return h.text }

// parseScript reads the text form; # begins a remark.
func parseScript(lines []string) (sc script, err error) {
	defer func() { // of a line that lacks a word
		if r := recover(); r != nil {
			err = fmt.Errorf("a line is too short: %v", r)
		}
	}()
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		if err := sc.line(f); err != nil {
			return sc, fmt.Errorf("%s: %w", line, err)
		}
	}
	if sc.interval == 0 || sc.end == 0 || len(sc.speakers) == 0 {
		return sc, fmt.Errorf("a script has an election, a node and an end")
	}
	return sc, CheckInterval(sc.version, sc.interval)
}

func (sc *script) line(f []string) error {
	num := func(s string) (n int, err error) { return strconv.Atoi(s) }
	var err, more error
	switch f[0] {
	case "election":
		var v int
		v, err = num(f[1])
		sc.version = Version(v)
		sc.interval, more = time.ParseDuration(f[2])
		if sc.preempt = f[3] == "preempt"; sc.preempt && more == nil {
			sc.delay, more = time.ParseDuration(f[4])
		}
	case "node", "foreign":
		sp := spec{name: f[1], foreign: f[0] == "foreign"}
		var p int
		p, err = num(f[2])
		sp.priority = uint8(p)
		if len(f) > 3 {
			sp.drift, more = num(f[3])
		}
		if sp.foreign {
			sp.interval, more = time.ParseDuration(f[4])
			sp.preempt = len(f) > 5 && f[5] == "preempt"
		}
		if p < 1 || p > 254 || sc.index(sp.name) >= 0 || len(sp.name) != 2 {
			return fmt.Errorf("no such speaker can be")
		}
		sc.speakers = append(sc.speakers, sp)
	default:
		return sc.happening(f)
	}
	if err == nil {
		err = more
	}
	return err
}

func (sc *script) index(name string) int {
	return slices.IndexFunc(sc.speakers, func(s spec) bool { return s.name == name })
}

func (sc *script) happening(f []string) (err error) {
	h := happening{what: f[1], text: strings.Join(f[1:], " ")}
	if h.at, err = time.ParseDuration(f[0]); err != nil {
		return err
	}
	want := map[string][]string{
		"boot": {"node"}, "crash": {"node"}, "stop": {"node"}, "sleep": {"node", "for"}, "priority": {"node", "number"}, "cut": {"wire"},
		"interval": {"node", "for"}, "lose": {"wire", "number"}, "delay": {"wire", "number", "for"}, "copy": {"wire", "for"}, "mend": {"wire"}, "end": {},
	}[h.what]
	if h.what == "mend" && len(f) == 2 {
		want = nil
	}
	if len(f)-2 != len(want) {
		return fmt.Errorf("%d words after %s, want %d", len(f)-2, h.what, len(want))
	}
	for i, kind := range want {
		word := f[2+i]
		switch kind {
		case "node", "wire":
			names := strings.Split(word, ">")
			for _, name := range names {
				h.nodes = append(h.nodes, sc.index(name))
			}
			if slices.Contains(h.nodes, -1) || (len(names) == 2) != (kind == "wire") || kind == "wire" && names[0] == names[1] {
				return fmt.Errorf("no such %s", kind)
			}
		case "number":
			if h.n, err = strconv.Atoi(word); err != nil || h.n < 1 || h.n > 254 {
				return fmt.Errorf("no such number: %w", err)
			}
		case "for":
			if h.d, err = time.ParseDuration(word); err != nil || h.d < 0 {
				return fmt.Errorf("no such time: %w", err)
			}
		}
	}
	if h.what == "interval" {
		if err := CheckInterval(sc.version, h.d); err != nil || sc.version == Version2 || sc.speakers[h.nodes[0]].foreign {
			return fmt.Errorf("no such interval: %w", err)
		}
	}
	if h.what == "end" {
		sc.end = h.at
		return nil
	}
	sc.happenings = append(sc.happenings, h)
	return nil
}
