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
	small := map[string]bool{}
	size := 0
	for n := 0; ; n++ {
		l.d.disk.look()
		if used, limit, err := kernel.TableUse(); err == nil && limit > 0 {
			if limit != size && l.d.settings().file.ConntrackSync.TableSize == 0 { // somebody raised it
				l.d.replica.Resize(limit)
			}
			size = limit
			small = l.peers(used, limit, small)
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

// peers tells of nodes whose table will not hold the connections of this one:
// before gives those with an alarm, the result too.
func (l limits) peers(used, limit int, before map[string]bool) map[string]bool {
	now, nodes := map[string]bool{}, l.d.settings().peers()
	l.d.capacity.Range(func(k, v any) bool {
		node, holds := k.(string), v.(int)
		if _, ok := nodes[node]; ok && holds > 0 && holds < limit && float64(used) >= fullAt*float64(holds) {
			now[node] = true
			l.tell(ha.AlarmTableFull, node, true,
				fmt.Sprintf("%s can hold %d connections, and %d are in use here: set conntrack_sync.table_size, or net.netfilter.nf_conntrack_max to the same on all nodes (here it is %d)", node, holds, used, limit))
		}
		return true
	})
	for node := range before {
		if !now[node] {
			l.tell(ha.AlarmTableFull, node, false, "")
		}
	}
	return now
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
