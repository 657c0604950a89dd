package main

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

const (
	replicated     = 40000 // connections whose costs are counted
	replicatedRate = 10000 // of them a second
	delayed        = 15000 // connections whose way is timed
	delayedRate    = 5000
	stormed        = 60000 // connections of which none may be lost
	stormedRate    = 20000
)

var replicationBench = bench{
	name: "replication", title: fmt.Sprintf("connections to the backup: %d TCP at %d/s, %d at %d/s, %d at %d/s", replicated, replicatedRate, delayed, delayedRate, stormed, stormedRate),
	peer: "conntrackd FTFW",
	notes: []string{
		"each connection is opened through the master with NAT and a mark, three events of its kernel, and left open. Wire: both directions with the",
		"headers from Ethernet up, without segmentation in the device; ours is encrypted. Processor time is that of the processes' own clocks, less what they use idle:",
		"ours of daemon and guard with all that they do, theirs of conntrackd alone. Ours has the flows in the backup's kernel when they are received,",
		"theirs after conntrackd -c, whose processor time is its receiver's too. Ready: ours take of all flows in a failover, theirs conntrackd -c. Delay: established in the master's kernel to established",
		"in the backup's, theirs with DisableExternalCache On, which is not what its manual advises; all else with Off.",
	},
	run: replication,
}

// replicating is two routers whose flows are brought to the backup.
type replicating interface {
	lab() *netlab.Site
	// usage is the processor time of what replicates.
	usage(router string) (time.Duration, error)
	// commit has the backup be ready for all flows; the time that took.
	commit() (time.Duration, error)
	// forget empties all tables.
	forget() error
	// replicate begins anew; direct "On" for a timing of the way.
	replicate(direct string) error
}

// ourFlows is harouter on both.
type ourFlows struct{ ourPair }

func newOurFlows() (*ourFlows, error) {
	p, err := newOurPair(100 * time.Millisecond)
	if err != nil {
		return nil, err
	}
	f := &ourFlows{p.(ourPair)}
	if err := errors.Join(f.start("r1", "r2"), f.settled(), f.replicate("")); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *ourFlows) usage(router string) (all time.Duration, err error) {
	by, _, err := usage(f.Router(router))
	for _, cpu := range by {
		all += cpu
	}
	return all, err
}

// replicate waits until both are in sync.
func (f *ourFlows) replicate(string) error {
	return f.Wait("flows in sync", "r1", 20*time.Second, func(s ha.Status) bool {
		return len(s.ConntrackSync.Peers) > 0 && s.ConntrackSync.Peers[0].State == ha.SyncSynced
	})
}

func (f *ourFlows) forget() error {
	if err := errors.Join(f.Router("r1").FlushConnections(), f.Router("r2").FlushConnections()); err != nil {
		return err
	}
	err := netlab.WaitFor("the backup's table is empty", 20*time.Second, func() bool {
		left, err := f.Router("r2").FloodFlows()
		return err == nil && len(left) == 0
	})
	if err != nil {
		return fmt.Errorf("%w; the addresses are with %s", err, holders(f.Site))
	}
	return nil
}

var took = regexp.MustCompile(`flows are this node's.*took=(\S+)`)

// commit reads what the successor says of a hand-over, and hands back.
func (f *ourFlows) commit() (time.Duration, error) {
	if err := f.failover(); err != nil {
		return 0, err
	}
	all := took.FindAllStringSubmatch(f.Log("r2"), -1)
	if len(all) == 0 {
		return 0, errors.New("r2 does not say that it took the flows")
	}
	d, err := time.ParseDuration(all[len(all)-1][1])
	if err != nil {
		return 0, err
	}
	time.Sleep(2 * time.Second)
	return d, errors.Join(f.failover("--auto"), f.settled(), f.replicate(""))
}

// The port of the replication, ours and theirs, counted where it leaves.
const meter = `table ip bench {
  counter told { }
  chain out {
    type filter hook output priority 300
    oifname "sync0" tcp sport 7947 counter name "told"
    oifname "sync0" tcp dport 7947 counter name "told"
    oifname "sync0" udp dport 3780 counter name "told"
  }
}
`

var metered = regexp.MustCompile(`packets (\d+) bytes (\d+)`)

// wire is how many bytes left both routers so far, Ethernet headers included.
func wire(s *netlab.Site) (float64, error) {
	sum := 0.0
	for _, name := range []string{"r1", "r2"} {
		out, err := s.Router(name).Exec(tool("nft"), "list", "counter", "ip", "bench", "told")
		if err != nil {
			return 0, err
		}
		var packets, bytes float64
		m := metered.FindStringSubmatch(out)
		if m == nil {
			return 0, fmt.Errorf("no counter in %q", out)
		}
		if _, err := fmt.Sscan(m[1], &packets); err != nil {
			return 0, err
		}
		if _, err := fmt.Sscan(m[2], &bytes); err != nil {
			return 0, err
		}
		sum += bytes + 14*packets
	}
	return sum, nil
}

func replication(l *lab) (err error) {
	for _, side := range []Side{Ours, Theirs} {
		for i := range l.runs {
			name := [2]string{"harouter", "conntrackd"}[side]
			l.tell("run %d of %d, %s", i+1, l.runs, name)
			if err := replicationOf(l, side); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func replicationOf(l *lab, side Side) (err error) {
	var p replicating
	if side == Ours {
		p, err = newOurFlows()
	} else {
		p, err = newTheirFlows()
	}
	if err != nil {
		return err
	}
	s := p.lab()
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, name := range []string{"r1", "r2"} {
		if err := errors.Join(s.Router(name).NFT(meter), s.Router(name).IP("link set sync0 gso_max_segs 1")); err != nil {
			return err
		}
	}
	commit, err := costs(l, side, p, replicated, replicatedRate)
	if err == nil && side == Ours {
		commit, err = p.commit()
	}
	if err != nil {
		return err
	}
	l.row(fmt.Sprintf("ready after a takeover with %d flows", replicated), "ms").Add(side, ms(commit), noise{})
	if err := errors.Join(p.forget(), p.replicate("On")); err != nil {
		return err
	}
	if side == Ours {
		time.Sleep(time.Second) // what was forgotten is over
	}
	all, missing, err := delays(s, func() error { return flood(s, 0, delayed, delayedRate) })
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return errors.New("no connection came to the backup")
	}
	l.row("delay at 5,000/s: median", "ms").Aim(2).Add(side, ms(all[len(all)/2]), noise{})
	l.row("delay at 5,000/s: of 99 in 100 at most", "ms").Add(side, ms(all[len(all)*99/100]), noise{})
	l.row("delay at 5,000/s: never came", "").Aim(0).Add(side, float64(missing), noise{})

	if err := errors.Join(p.forget(), p.replicate("Off")); err != nil {
		return err
	}
	_, err = costs(l, side, p, stormed, stormedRate)
	return err
}

// costs opens connections and counts bytes and processor time. It returns how
// long the backup's commit took, which theirs needs before it has any.
func costs(l *lab, side Side, p replicating, n, rate int) (commit time.Duration, err error) {
	const idle = 2 * time.Second
	s := p.lab()
	read := func() (cpu [2]time.Duration, bytes float64, at netlab.Instant, err error) {
		for i, name := range []string{"r1", "r2"} {
			if cpu[i], err = p.usage(name); err != nil {
				return cpu, 0, 0, err
			}
		}
		bytes, err = wire(s)
		return cpu, bytes, netlab.Now(), err
	}
	time.Sleep(time.Second)
	cpu0, bytes0, at0, err := read()
	if err != nil {
		return 0, err
	}
	time.Sleep(idle)
	cpu1, bytes1, at1, err := read()
	if err != nil {
		return 0, err
	}
	if err := flood(s, 0, n, rate); err != nil {
		return 0, err
	}
	time.Sleep(2 * time.Second)
	cpu2, bytes2, at2, err := read()
	if err != nil {
		return 0, err
	}
	longer := at2.Sub(at1).Seconds() / at1.Sub(at0).Seconds()
	each := func(i int) float64 {
		used := (cpu2[i] - cpu1[i]).Seconds() - (cpu1[i]-cpu0[i]).Seconds()*longer
		return used * 1e6 / float64(n)
	}
	sender, receiver := each(0), each(1)
	if side == Theirs {
		if commit, err = p.commit(); err != nil {
			return 0, err
		}
		cpu3, err := p.usage("r2")
		if err != nil {
			return 0, err
		}
		receiver += (cpu3 - cpu2[1]).Seconds() * 1e6 / float64(n)
	}
	at := fmt.Sprintf("at %d/s: ", rate)
	l.row(at+"on the wire", "bytes a flow").Add(side, (bytes2-bytes1-(bytes1-bytes0)*longer)/float64(n), noise{})
	l.row(at+"processor, sender", "us a flow").Add(side, sender, noise{})
	l.row(at+"processor, receiver", "us a flow").Add(side, receiver, noise{})
	lost, err := lacks(s)
	l.row(at+"connections that the backup lacks", "").Aim(0).Add(side, float64(lost), noise{})
	return commit, err
}

// flood opens connections through the master.
func flood(s *netlab.Site, first, n, rate int) error {
	done, err := s.Flood(netlab.Flood{From: "h1", To: "net", Target: site.Server, First: first, Flows: n, Rate: rate})
	if err != nil {
		return err
	}
	if done.Answered != n {
		return fmt.Errorf("%d of %d connections were opened", done.Answered, n)
	}
	if long := time.Duration(n) * time.Second / time.Duration(rate); done.Took > long*5/4 {
		fmt.Printf("  the lab was too slow: %d connections in %v instead of %v\n", n, done.Took.Round(time.Millisecond), long)
	}
	return nil
}

// lacks is how many connections of the master the backup does not have in the
// same way, mark and translation included.
func lacks(s *netlab.Site) (int, error) {
	there, err := s.Router("r2").FloodFlows()
	if err != nil {
		return 0, err
	}
	here, err := s.Router("r1").FloodFlows()
	if err != nil {
		return 0, err
	}
	has := make(map[netlab.Connection]bool, len(there))
	for _, c := range there {
		c.Timeout = 0
		has[c] = true
	}
	missing := 0
	for _, c := range here {
		if c.Timeout = 0; !has[c] {
			missing++
		}
	}
	return missing, nil
}
