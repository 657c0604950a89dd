package interop

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"harouter/vrrp"
	"harouter/vrrp/wire"
)

const speakerRole = "speaker"

// speech is what a speaker is told.
type speech struct {
	Advertise    time.Duration
	Priority     uint8
	Preempt      bool
	Own, Virtual string
}

// speak takes part in an election over IPv6 on lan0 until ctx ends: the machine
// and the sockets of harouter, and nothing else of it.
func speak(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("speak: want one argument")
	}
	var s speech
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return err
	}
	own, err := netip.ParseAddr(s.Own)
	if err != nil {
		return err
	}
	virtual, err := netip.ParseAddr(s.Virtual)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	heard := make(chan wire.Received, 256)
	transport, err := wire.New(wire.Config{
		VRID: vrid, Interval: s.Advertise, Checksum: vrrp.ChecksumPseudo, Lease: time.Second,
		Links:   []wire.Link{{Name: "office", Device: "lan0", Addresses: []netip.Addr{virtual}}},
		Virtual: []netip.Addr{virtual}, Receive: func(r wire.Received) { heard <- r }, Log: log,
	})
	if err != nil {
		return err
	}
	// The sockets outlive ctx: a farewell is to be said.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- transport.Run(running) }()
	defer func() { cancel(); <-ended }()

	m := vrrp.NewMachine(vrrp.MachineConfig{Priority: s.Priority, Interval: s.Advertise, Rank: own, Preempt: s.Preempt})
	do := func(actions []vrrp.Action) {
		for _, a := range actions {
			switch a := a.(type) {
			case vrrp.Advertise:
				transport.Advertise(a.Priority, a.Interval)
			case vrrp.Silence:
				transport.Silence()
			case vrrp.Farewell:
				transport.Once(0)
			case vrrp.Become:
				log.Info("role", "state", a.State, "reason", a.Reason)
			case vrrp.Reannounce, vrrp.Claim:
			}
		}
	}
	transport.Renew()
	do(m.Handle(vrrp.Start{}, time.Now()))
	for {
		transport.Renew()
		wait := 100 * time.Millisecond
		if due := m.Deadline(); !due.IsZero() {
			wait = min(wait, time.Until(due))
		}
		select {
		case <-ctx.Done():
			do(m.Handle(vrrp.Stop{Reason: "told to"}, time.Now()))
			return nil
		case err := <-ended:
			ended <- err
			return err
		case r := <-heard:
			if r.Drop != "" {
				log.Warn("dropped", "source", r.Src, "reason", r.Drop)
				continue
			}
			do(m.Handle(vrrp.Heard{Speaker: r.Src.String(), Rank: r.Src, Priority: r.Advert.Priority, Interval: r.Advert.Interval}, time.Now()))
		case <-time.After(wait):
			if !transport.Unread() { // what waits comes before any timer
				do(m.Handle(vrrp.Tick{}, time.Now()))
			}
		}
	}
}
