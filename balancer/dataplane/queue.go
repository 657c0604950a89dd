package dataplane

import (
	"encoding/binary"
	"errors"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// OptionQueue is the kernel's option by which packets wait for a race. A kernel
// that has the target NFQUEUE of iptables does as well.
const OptionQueue = "NFT_QUEUE"

// queueing is how a kernel lets packets wait.
type queueing uint8

const (
	queueUnknown queueing = iota
	queueNative           // nft's own expression
	queueCompat           // the target of iptables, which nft prints as it can
	queueNone
)

func (q queueing) String() string {
	switch q {
	case queueNative:
		return "nft's own expression queue"
	case queueCompat:
		return "iptables' target NFQUEUE, since this kernel has no " + OptionQueue
	case queueUnknown, queueNone:
	}
	return ""
}

// queueing tries what this kernel has, once.
func (k *Kernel) queueing() queueing {
	if k.queue != queueUnknown {
		return k.queue
	}
	native := &expr.Queue{Num: 1, Total: 1, Flag: expr.QueueFlagBypass}
	compat := []expr.Any{native}
	compatible(compat)
	lacks := func(err error) bool {
		return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)
	}
	try := func(e expr.Any) error {
		return k.try(nftables.ChainHookPrerouting, nftables.ChainTypeFilter, []expr.Any{e})
	}
	switch err := try(native); {
	case err == nil:
		k.queue = queueNative
	case !lacks(err):
		return queueNative // what is wrong is another thing, which the table meets too
	case try(compat[0]) == nil:
		k.queue = queueCompat
	default:
		k.queue = queueNone
		const instead = "this kernel has neither " + OptionQueue + " nor the target NFQUEUE: first packets do not wait, as with race: learn"
		k.cfg.Log.Warn(instead)
		if k.cfg.Lacks != nil {
			k.cfg.Lacks("race: hold", instead)
		}
	}
	return k.queue
}

// compatible puts the target NFQUEUE, revision 3, in the place of nft's queue: the
// number, one queue, and the flag that lets pass where nobody reads it, in the
// machine's byte order.
func compatible(exprs []expr.Any) {
	for i, e := range exprs {
		q, ok := e.(*expr.Queue)
		if !ok {
			continue
		}
		var info xt.Unknown
		for _, v := range []uint16{q.Num, q.Total, 1} {
			info = binary.NativeEndian.AppendUint16(info, v)
		}
		exprs[i] = &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}
	}
}
