package dataplane

import (
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// Lacking tries each part of nftables that a kernel may be built without, in the
// network namespace of the caller, and returns the options of those that it has
// not, and by what packets wait for a race, in words; "": they cannot. Without NFT_SOCKET and
// NFT_QUEUE harouter can live. The error is that of a kernel, or a process, that refuses all of it.
func Lacking() (options []string, queue string, err error) {
	nft, err := openNft()
	if err != nil {
		return nil, "", err
	}
	k := &Kernel{cfg: Config{Log: slog.New(slog.DiscardHandler)}, nft: nft}
	defer func() { _ = k.nft.CloseLasting() }()
	for _, n := range needs {
		switch err := k.try(n.hook, n.kind, n.exprs); {
		case err == nil:
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
			options = append(options, n.option)
		default:
			return options, "", fmt.Errorf("try %s: %w", n.option, err)
		}
	}
	q := k.queueing()
	if q == queueNone {
		options = append(options, OptionQueue)
	}
	return options, q.String(), nil
}
