package dataplane

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
)

// aspect is one kind of kernel state that is looked after.
type aspect uint8

const (
	kindRule aspect = iota
	kindRoute
	kindTable
	kindSysctl

	kinds = 4
)

var (
	kindNames = [kinds]string{kindRule: "rule", kindRoute: "route", kindTable: "table", kindSysctl: "sysctl"}
	kindWords = [kinds]string{kindRule: "the ip rules", kindRoute: "the routes", kindTable: "the nft table", kindSysctl: "the sysctls"}
)

func (a aspect) String() string { return kindNames[a] }

// kindSet is some of the kinds, a bit each.
type kindSet uint8

const allKinds kindSet = 1<<kinds - 1

func setOf(k aspect) kindSet        { return 1 << k }
func (s kindSet) has(k aspect) bool { return s&setOf(k) != 0 }
func (s *kindSet) put(k aspect)     { *s |= setOf(k) }

// Repairs counts what was put back because somebody else had changed it: ip
// rules, routes and sysctls one by one, the nft table once however much of it
// was damaged. What comes back with a device is not counted.
type Repairs struct{ Rule, Route, Table, Sysctl uint64 }

// Repairs may be called from any goroutine and never waits.
func (k *Kernel) Repairs() Repairs {
	n := func(kind aspect) uint64 { return k.repairs[kind].Load() }
	return Repairs{Rule: n(kindRule), Route: n(kindRoute), Table: n(kindTable), Sysctl: n(kindSysctl)}
}

type counters [kinds]atomic.Uint64

// difference is what a look at one kind found.
type difference struct {
	change  bool     // the kernel is not as it should be
	damaged []string // what somebody else did, an object each
	err     error
}

// join adds what another look found.
func (d *difference) join(o difference) {
	d.change = d.change || o.change
	d.damaged = append(d.damaged, o.damaged...)
	d.err = errors.Join(d.err, o.err)
}

func (d *difference) damage(format string, args ...any) {
	d.change = true
	d.damaged = append(d.damaged, fmt.Sprintf(format, args...))
}

// String names the first few.
func (d difference) String() string {
	const few = 3
	if len(d.damaged) <= few {
		return strings.Join(d.damaged, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(d.damaged[:few], ", "), len(d.damaged)-few)
}
