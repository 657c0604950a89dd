package kernel

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"harouter/conntracksync"
)

// DeleteByMark deletes the flows, IPv4 and IPv6, whose mark has the value mark
// in the bits of mask, and no others: the kernel itself compares. None is fine.
// A mark that is zero, or has bits outside of mask, is refused: the first would
// name the flows of no uplink. ctx is looked at before and after, not during
// the deletion, which the kernel does in one go (about 0.1 s for 100,000).
func DeleteByMark(ctx context.Context, mark, mask uint32) error {
	if mark == 0 || mark&^mask != 0 {
		return fmt.Errorf("delete flows with mark %#x/%#x: no mark of an uplink", mark, mask)
	}
	body := appendUint32(appendUint32(nil, ctaMark, mark), ctaMarkMask, mask)
	again := func() {} // what is deleted stays so
	entry := func([]byte) error { return nil }
	if err := exchange(ctx, ofFlow|msgDelete, unix.NLM_F_ACK, body, again, entry); err != nil {
		return fmt.Errorf("delete flows with mark %#x/%#x: %w", mark, mask, err)
	}
	return nil
}

// CountByMark counts the flows, IPv4 and IPv6, by their mark in the bits of
// mask; key 0 holds those without. It dumps the table (about 0.1 s of a core
// for 100,000 flows), so it is not for every second on a busy router. The table
// changes meanwhile: the numbers are close, not exact.
func CountByMark(ctx context.Context, mask uint32) (map[uint32]int, error) {
	counts := make(map[uint32]int)
	err := dump(ctx, func() { clear(counts) }, func(f *conntracksync.Flow) {
		counts[f.Mark&mask]++
	})
	if err != nil {
		return nil, fmt.Errorf("count flows by mark: %w", err)
	}
	return counts, nil
}

// Filter names flows by bits of their mark and status; the kernel compares. A
// mask of 0 does not look.
type Filter struct {
	Mark, MarkMask     uint32
	Status, StatusMask conntracksync.Status
}

// Dump calls each with every flow of the table that the filter names. The flow
// is only lent. If the kernel was interrupted it begins again, after calling
// restart. It costs about 2 µs a flow.
func Dump(ctx context.Context, filter Filter, restart func(), each func(*conntracksync.Flow)) error {
	var body []byte
	if filter.MarkMask != 0 {
		body = appendUint32(appendUint32(body, ctaMark, filter.Mark), ctaMarkMask, filter.MarkMask)
	}
	if filter.StatusMask != 0 {
		body = appendUint32(body, ctaStatus, uint32(filter.Status))
		body = appendUint32(body, ctaStatusMask, uint32(filter.StatusMask))
	}
	var f conntracksync.Flow
	err := exchange(ctx, ofFlow|msgGet, unix.NLM_F_DUMP, body, restart, func(b []byte) error {
		if err := Parse(b, &f); err != nil {
			return err
		}
		each(&f)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the connection table: %w", err)
	}
	return nil
}

// dump is Dump of all flows.
func dump(ctx context.Context, restart func(), each func(*conntracksync.Flow)) error {
	return Dump(ctx, Filter{}, restart, each)
}
