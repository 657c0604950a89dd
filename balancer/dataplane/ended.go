package dataplane

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

var endedSet = func() *nftables.Set {
	typ, _ := keyType(balancer.KeyEnds)
	return &nftables.Set{Table: ourTable, Name: balancer.SetEnded, KeyType: typ, HasTimeout: true}
}()

// Ended tells the kernel of TCP connections that were deleted since their uplink
// is of no use: it resets them during the grace of a takeover too. Afterwards it
// does so with all that has no entry, so that without a grace there is nothing to
// write. A takeover that comes meanwhile ends it.
func (k *Kernel) Ended(ends []balancer.Ends) error {
	k.switching.Lock()
	until := k.graceUntil
	k.switching.Unlock()
	for some := range slices.Chunk(ends, elementChunk) {
		if more, err := k.endedIn(until, some); err != nil || !more {
			return err
		}
	}
	return nil
}

// endedIn is one step of Ended, short enough that the takeover switch may wait.
func (k *Kernel) endedIn(grace time.Time, ends []balancer.Ends) (more bool, err error) {
	k.switching.Lock()
	defer k.switching.Unlock()
	left := time.Until(grace)
	if left <= 0 || k.graceUntil != grace {
		return false, nil
	}
	var all []nftables.SetElement
	for _, e := range ends {
		if key := endsKey(e); key != nil {
			all = append(all, nftables.SetElement{Key: key, Timeout: graceTimeout(left)})
		}
	}
	if len(all) == 0 {
		return true, nil
	}
	if err := errors.Join(k.flip.SetAddElements(endedSet, all), commit(&k.flip)); err != nil && !errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("reset connections in the grace time: %w", err)
	}
	return true, nil
}

// endsKey has each part in whole words, as the kernel has it in its registers.
func endsKey(e balancer.Ends) []byte {
	if !e.Host.Addr().Is4() || !e.Peer.Addr().Is4() {
		return nil
	}
	var key []byte
	for _, end := range []struct{ addr, port []byte }{
		{e.Host.Addr().AsSlice(), port(e.Host.Port())}, {e.Peer.Addr().AsSlice(), port(e.Peer.Port())},
	} {
		key = append(append(key, end.addr...), end.port...)
	}
	return key
}

func port(p uint16) []byte { return []byte{byte(p >> 8), byte(p), 0, 0} }
