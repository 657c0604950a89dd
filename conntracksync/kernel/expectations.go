package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"harouter/conntracksync"
)

// DumpExpectations calls each with every expectation there is. It may keep it. If
// the kernel was interrupted it begins again, after calling restart.
func DumpExpectations(ctx context.Context, restart func(), each func(*conntracksync.Expectation)) error {
	err := exchange(ctx, ofExpectation|msgGet, unix.NLM_F_DUMP, nil, restart, func(b []byte) error {
		e := new(conntracksync.Expectation)
		if err := parseExpectation(b, e); err != nil {
			return err
		}
		each(e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the expectations: %w", err)
	}
	return nil
}

// Expect makes expectations be in the kernel's table as they are given. One that
// is there already is replaced. Refused are those whose master is not there, or
// has no helper because that is not loaded.
func (i *Injector) Expect(ctx context.Context, all []conntracksync.Expectation) ([]Refused, error) {
	return i.eachExpectation(ctx, "expect", all, func(e *conntracksync.Expectation) error {
		err := i.oneExpectation(e, msgDelete, 0, appendExpected)
		if err == nil || errors.Is(err, unix.ENOENT) {
			err = i.oneExpectation(e, msgNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL, appendExpectation)
		}
		if err != nil || e.Timeout == 0 {
			return err
		}
		// A new one gets the time of its class, whatever is asked for.
		return i.oneExpectation(e, msgNew, 0, func(b []byte, e *conntracksync.Expectation) []byte {
			return appendUint32(appendExpectation(b, e), ctaExpectTimeout, e.Timeout)
		})
	})
}

// Unexpect removes expectations. One that is not there is fine.
func (i *Injector) Unexpect(ctx context.Context, all []conntracksync.Expectation) ([]Refused, error) {
	return i.eachExpectation(ctx, "stop expecting", all, func(e *conntracksync.Expectation) error {
		if err := i.oneExpectation(e, msgDelete, 0, appendExpected); !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	})
}

// Read overwrites flows with what the table holds under their original tuple
// and zone. Where that is nothing their ID is 0.
func (i *Injector) Read(ctx context.Context, flows []conntracksync.Flow) error {
	for n := range flows {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := i.get(&flows[n], appendName)
		switch {
		case err == nil:
			flows[n] = f
		case errors.Is(err, unix.ENOENT):
			flows[n].ID = 0
		default:
			return fmt.Errorf("read %v: %w", flows[n].Original, err)
		}
	}
	return nil
}

// eachExpectation does one after the other: there are few. An error that is the
// kernel's word on one of them does not end it.
func (i *Injector) eachExpectation(ctx context.Context, what string, all []conntracksync.Expectation,
	do func(*conntracksync.Expectation) error) (refused []Refused, err error) {
	for n := range all {
		if err := ctx.Err(); err != nil {
			return refused, err
		}
		err := do(&all[n])
		if err == nil {
			continue
		}
		_, word := err.(syscall.Errno) // that of a socket is wrapped
		err = fmt.Errorf("%s %v: %w", what, all[n], err)
		if !word {
			return refused, err
		}
		refused = append(refused, Refused{n, err})
	}
	return refused, nil
}

// oneExpectation makes a single change.
func (i *Injector) oneExpectation(e *conntracksync.Expectation, kind, flags uint16,
	body func([]byte, *conntracksync.Expectation) []byte) error {
	if !e.Tuple.Source.IsValid() || !e.Mask.Source.IsValid() || !e.Master.Source.IsValid() {
		return fmt.Errorf("expectation %v has no addresses", e.Tuple)
	}
	i.begin()
	b, at := begin(i.out, ofExpectation|kind, flags|unix.NLM_F_ACK, i.seq, family(e.Tuple.Source))
	i.out = end(body(b, e), at)
	var refused error
	err := i.exchange(1, func([]byte) error { return nil }, func(_ int, err syscall.Errno) { refused = err })
	if err != nil {
		return err
	}
	return refused
}

// appendExpected appends what names an expectation.
func appendExpected(b []byte, e *conntracksync.Expectation) []byte {
	b = appendTuple(b, ctaExpectTuple, &e.Tuple)
	if e.Zone != 0 {
		b = appendUint16(b, ctaExpectZone, e.Zone)
	}
	return b
}

// appendExpectation appends all but its time.
func appendExpectation(b []byte, e *conntracksync.Expectation) []byte {
	b = appendExpected(b, e)
	b = appendTuple(b, ctaExpectMask, &e.Mask)
	b = appendTuple(b, ctaExpectMaster, &e.Master)
	b = appendUint32(b, ctaExpectFlags, e.Flags)
	if e.Class != 0 || e.Helper == "sip" {
		// The kernel reads the class only beside a helper, which the expected
		// connection then gets too. What it tells as the helper is the
		// master's: which one the connection was to get it does not tell.
		b = appendUint32(b, ctaExpectClass, e.Class)
		b = appendBytes(b, ctaExpectHelper, append([]byte(e.Helper), 0)...)
	}
	if e.Function != "" {
		b = appendBytes(b, ctaExpectFunction, append([]byte(e.Function), 0)...)
	}
	if e.NAT.Source.IsValid() {
		var at int
		b, at = open(b, ctaExpectNAT)
		b = appendUint32(b, ctaExpectNATDirection, e.Direction)
		b = shut(appendTuple(b, ctaExpectNATTuple, &e.NAT), at)
	}
	return b
}

// parseExpectation reads one as the kernel tells it.
func parseExpectation(b []byte, e *conntracksync.Expectation) error {
	*e = conntracksync.Expectation{}
	if len(b) < sizeFamily {
		return fmt.Errorf("read an expectation: %w", errTruncated)
	}
	var p parser
	tuple := func(to *conntracksync.Tuple, b []byte) error {
		p.tuple = to
		return attributes(b, p.inTuple)
	}
	word := func(to *string, b []byte, most int) error {
		name, _, _ := bytes.Cut(b, []byte{0})
		if len(name) > most {
			return fmt.Errorf("a name of %d bytes", len(name))
		}
		*to = string(name)
		return nil
	}
	err := attributes(b[sizeFamily:], func(attr uint16, b []byte) error {
		switch attr {
		case ctaExpectMaster:
			return tuple(&e.Master, b)
		case ctaExpectTuple:
			return tuple(&e.Tuple, b)
		case ctaExpectMask:
			return tuple(&e.Mask, b)
		case ctaExpectTimeout:
			return read32(b, &e.Timeout)
		case ctaExpectHelper:
			return word(&e.Helper, b, conntracksync.MaxHelper)
		case ctaExpectZone:
			return read16(b, &e.Zone)
		case ctaExpectFlags:
			return read32(b, &e.Flags)
		case ctaExpectClass:
			return read32(b, &e.Class)
		case ctaExpectFunction:
			return word(&e.Function, b, conntracksync.MaxFunction)
		case ctaExpectNAT:
			return attributes(b, func(attr uint16, b []byte) error {
				switch attr {
				case ctaExpectNATDirection:
					return read32(b, &e.Direction)
				case ctaExpectNATTuple:
					return tuple(&e.NAT, b)
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read an expectation: %w", err)
	}
	return nil
}
