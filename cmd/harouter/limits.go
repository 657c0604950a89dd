package main

import (
	"context"
	"fmt"
	"time"

	"harouter/conntracksync/kernel"
	"harouter/ha"
)

// limits looks at what fills up slowly and then bites at once: the connection
// table, the ports of the NAT addresses (DESIGN.md §6), and the disk.
type limits struct{ d *daemon }

func (l limits) String() string { return "limits" }

const (
	limitsEvery = 1500 * time.Millisecond // alarms are shown within 2 s
	portsEvery  = 4                       // of limitsEvery: it reads the whole table
	fullAt      = 0.8
)

func (l limits) Run(ctx context.Context) error {
	t := time.NewTicker(limitsEvery)
	defer t.Stop()
	ports := map[string]bool{} // NAT addresses with an alarm
	for n := 0; ; n++ {
		l.d.disk.look()
		if used, limit, err := kernel.TableUse(); err == nil && limit > 0 {
			l.tell(ha.AlarmTableFull, "connections", float64(used) >= fullAt*float64(limit),
				fmt.Sprintf("%d of %d connections are in use: raise net.netfilter.nf_conntrack_max on all nodes", used, limit))
			if n%portsEvery == 0 && (len(ports) > 0 || float64(used) >= fullAt*kernel.MaxPorts) {
				ports = l.ports(ctx, ports)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// ports tells of the NAT addresses whose ports run out, and ends the alarms of
// those before that do no more.
func (l limits) ports(ctx context.Context, before map[string]bool) map[string]bool {
	use, err := kernel.PortUse(ctx, uint32(l.d.settings().file.Balance.MarkMask))
	if err != nil {
		return before
	}
	now := map[string]bool{}
	for _, p := range use {
		if float64(p.Used) >= fullAt*kernel.MaxPorts {
			now[p.Address.String()] = true
			l.tell(ha.AlarmPortsFull, p.Address.String(), true,
				fmt.Sprintf("%v: spread the clients over more addresses, or find the one that opens so many connections", p))
		}
	}
	for a := range before {
		if !now[a] {
			l.tell(ha.AlarmPortsFull, a, false, "")
		}
	}
	return now
}

func (l limits) tell(code, subject string, on bool, text string) {
	l.d.loop.Post(ha.Condition{Code: code, Subject: subject, Text: text, On: on})
}
