package dataplane

import (
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// Lacking tries each part of nftables that a kernel may be built without, in the
// network namespace of the caller, and returns the options of those that it has
// not. Without NFT_SOCKET and NFT_QUEUE harouter can live. The error is that of a kernel, or
// a process, that refuses all of it.
func Lacking() ([]string, error) {
	nft, err := openNft()
	if err != nil {
		return nil, err
	}
	k := &Kernel{cfg: Config{Log: slog.New(slog.DiscardHandler)}, nft: nft}
	defer func() { _ = k.nft.CloseLasting() }()
	var out []string
	for _, n := range needs {
		switch err := k.try(n.hook, n.kind, n.exprs); {
		case err == nil:
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
			out = append(out, n.option)
		default:
			return out, fmt.Errorf("try %s: %w", n.option, err)
		}
	}
	if k.queueing() == queueNone {
		out = append(out, OptionQueue)
	}
	return out, nil
}
