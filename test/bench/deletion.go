package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"harouter/balancer"
	ct "harouter/conntracksync"
	"harouter/conntracksync/kernel"
	"harouter/test/netlab"
	"harouter/test/site"
)

const (
	tableFlows = 100_000 // half of them on the uplink that dies
	markMask   = 0x3f00
)

var deletionBench = bench{
	name: "deletion", title: fmt.Sprintf("an uplink's %d flows are deleted by mark out of %d, as many as the other has", tableFlows/2, tableFlows), peer: "-",
	notes: []string{
		"the connections of the dead uplink are read first, for the resets of their hosts; then the kernel deletes them. 'together' is what a death costs.",
		"meanwhile nobody listens to the kernel's events; 'others missing' are flows of the other uplink that are gone or have another mark.",
	},
	run: deletion,
}

func deletion(l *lab) (err error) {
	s, err := newSite(netlab.PairOptions{Routers: 1, WANOwn: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r := s.Router("r1")
	p, err := r.StartRole("deletion", "deletion", r.Dir(), fmt.Sprint(l.runs))
	if err != nil {
		return err
	}
	code, err := p.Wait(time.Minute + time.Duration(l.runs)*10*time.Second)
	var all []deleted
	if err == nil && code == 0 {
		var text []byte
		if text, err = os.ReadFile(filepath.Join(r.Dir(), "deleted")); err == nil {
			err = json.Unmarshal(text, &all)
		}
	}
	if err != nil || code != 0 {
		log, _ := os.ReadFile(p.Log)
		return fmt.Errorf("the role ended with %d: %w: %.300s", code, err, log)
	}
	for _, d := range all {
		l.row("read", "ms").Add(Ours, ms(d.Read), noise{})
		l.row("deleted", "ms").Add(Ours, ms(d.Deleted), noise{})
		l.row("together", "ms").Aim(500).Add(Ours, ms(d.Read+d.Deleted), noise{})
		l.row("flows left", "").Aim(0).Add(Ours, float64(d.Left), noise{})
		l.row("others missing", "").Aim(0).Add(Ours, float64(d.Missing), noise{})
	}
	return nil
}

// deleted is one run of the role in the router.
type deleted struct {
	Read, Deleted time.Duration
	Left, Missing int
}

// deletionRole fills the router's table and deletes half of it, so often. Its
// arguments are a folder and that number.
func deletionRole(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("want a folder and a number")
	}
	runs, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	i, err := kernel.NewInjector()
	if err != nil {
		return err
	}
	defer i.Close()
	flows := make([]ct.Flow, tableFlows)
	for n := range flows {
		flows[n] = established(n, balancer.Mark(1+n%2, markMask))
	}
	var out []deleted
	for range runs {
		if refused, err := i.Install(ctx, flows); err != nil || len(refused) > 0 {
			return fmt.Errorf("%d flows were refused, %w", len(refused), err)
		}
		var d deleted
		dead, other := balancer.Mark(1, markMask), balancer.Mark(2, markMask)
		read := 0
		begin := netlab.Now()
		if err := kernel.Dump(ctx, kernel.Filter{Mark: dead, MarkMask: markMask}, func() { read = 0 }, func(*ct.Flow) { read++ }); err != nil {
			return err
		}
		d.Read = netlab.Now().Sub(begin)
		if read != tableFlows/2 {
			return fmt.Errorf("%d flows were read, want %d", read, tableFlows/2)
		}
		begin = netlab.Now()
		if err := kernel.DeleteByMark(ctx, dead, markMask); err != nil {
			return err
		}
		d.Deleted = netlab.Now().Sub(begin)
		left, err := kernel.CountByMark(ctx, markMask)
		if err != nil {
			return err
		}
		d.Left, d.Missing = left[dead], tableFlows/2-left[other]
		out = append(out, d)
	}
	text, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(args[0], "deleted"), text, 0o644)
}

// established is a TCP connection of the LAN.
func established(n int, mark uint32) ct.Flow {
	host := netip.AddrFrom4([4]byte{192, 168, 77, byte(100 + n/50_000)})
	t := ct.Tuple{Source: host, Destination: site.Server, Protocol: ct.TCP, SourcePort: uint16(10_000 + n%50_000), DestinationPort: 443}
	return ct.Flow{
		Original: t, Reply: t.Inverse(), Timeout: 3600, Mark: mark, Status: ct.SeenReply | ct.Assured | ct.Confirmed,
		TCP: ct.TCPInfo{State: ct.Established},
	}
}
