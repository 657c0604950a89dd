package main

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"harouter/ha/guard"
	"harouter/vrrp/vip"
	"harouter/vrrp/wire"
)

// guardVerb starts the guard process; people have no use for it.
const guardVerb = "guard-process"

func newGuard() *cobra.Command {
	return &cobra.Command{
		Use: guardVerb + " RUN-DIR", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("part", "guard")
			ports, ended, err := guardPorts(log)
			if err != nil {
				return err
			}
			defer ended()
			return guard.Run(3, args[0], ports)
		},
	}
}

// guardPorts opens all that a fence needs before it is needed; ended waits for
// what follows a fence.
func guardPorts(log *slog.Logger) (ports guard.Ports, ended func(), err error) {
	sender, err := wire.NewFrameSender()
	if err != nil {
		return guard.Ports{}, nil, err
	}
	remover, err := vip.NewRemover()
	if err != nil {
		return guard.Ports{}, nil, err
	}
	return guard.Ports{
		Log: log, Tell: guard.SendWords,
		Remove: func(as []guard.Address) error {
			out := make([]vip.Address, 0, len(as))
			for _, a := range as {
				out = append(out, vip.Address{Device: a.Device, Prefix: a.Prefix})
			}
			return remover.Remove(out)
		},
		Send: func(fs []guard.Frame) error {
			out := make([]wire.Frame, 0, len(fs))
			for _, f := range fs {
				out = append(out, wire.Frame(f))
			}
			return sender.Send(out)
		},
		Listen: func(ctx context.Context, devices []string, local netip.Addr, recv func(guard.Heard)) error {
			spots := wire.Spots{Local: local}
			for _, d := range devices {
				switch {
				case strings.HasPrefix(d, macPrefix):
					spots.MACs = append(spots.MACs, d)
				case strings.HasPrefix(d, macPrefix6):
					spots.MACs6 = append(spots.MACs6, d)
				default:
					spots.Devices = append(spots.Devices, d)
				}
			}
			return wire.Listen(ctx, spots, func(r wire.Received) {
				recv(guard.Heard{Device: r.Link, Src: r.Src, TTL: r.TTL, VRID: r.Advert.VRID, Priority: r.Advert.Priority, Drop: string(r.Drop)})
			})
		},
	}, remover.Close, nil
}
