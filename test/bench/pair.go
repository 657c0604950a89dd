package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// pair is two routers that back each other up; r1 is to be master, r2 its
// successor. All times and priorities are the same for both kinds.
type pair interface {
	lab() *netlab.Site
	start(routers ...string) error
	// settled waits until r1 holds the addresses and everything is as usual.
	settled() error
	// leave ends the daemon of a router in good order (SIGTERM).
	leave(router string) error
	// kill ends it with SIGKILL.
	kill(router string) error
}

// virtual are the addresses that move.
var virtual = []netip.Addr{site.LANAddress, site.WAN1, site.WAN2}

// newSite is the standard site with a server on the internet.
func newSite(o netlab.PairOptions) (*netlab.Site, error) {
	s, err := netlab.New(netlab.Pair(o))
	if err != nil {
		return nil, err
	}
	if _, err := s.Serve("net"); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// cluster builds a site and installs harouter; replace is pairs of old and new
// text of the standard file.
func cluster(o netlab.PairOptions, replace ...string) (*site.Cluster, error) {
	s, err := newSite(o)
	if err != nil {
		return nil, err
	}
	config := site.Config
	for i := 0; i < len(replace); i += 2 {
		config = site.Replace(config, replace[i], replace[i+1])
	}
	c, err := site.Install(s, config)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return c, nil
}

// ourPair is harouter on both.
type ourPair struct{ *site.Cluster }

func newOurPair(advertise time.Duration) (pair, error) {
	c, err := cluster(netlab.PairOptions{WANOwn: true},
		"advertise: 100ms", "advertise: "+advertise.String(), "preempt_delay: 2s", "preempt_delay: 1s")
	if err != nil {
		return nil, err
	}
	return ourPair{c}, nil
}

func (p ourPair) lab() *netlab.Site             { return p.Site }
func (p ourPair) start(routers ...string) error { return p.Run(routers...) }

func (p ourPair) settled() error {
	for _, r := range []string{"r1", "r2"} {
		if err := p.Settled(r, "r1", 30*time.Second); err != nil {
			return err
		}
	}
	return held(p.Site, "r1")
}

func (p ourPair) leave(router string) error {
	code, err := p.Daemons[router].Stop(10 * time.Second)
	if err == nil && code != 0 {
		err = fmt.Errorf("SIGTERM: exit code %d", code)
	}
	return err
}

// It is killed so often that it would be kept backup as one that crashes again and again.
func (p ourPair) kill(router string) error {
	return errors.Join(p.Daemons[router].Kill(), os.Remove(filepath.Join(p.Router(router).RunDir(), "starts")))
}

// failover is the command, which keepalived does not have.
func (p ourPair) failover(args ...string) error {
	_, err := p.Command("r1", append([]string{"failover"}, args...)...)
	return err
}

// held waits until one router has all the addresses.
func held(s *netlab.Site, router string) error {
	for _, a := range virtual {
		if err := s.WaitHolder(a, router, 30*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// holders names who has any of the addresses now.
func holders(s *netlab.Site) string {
	var all []string
	for _, r := range []string{"r1", "r2"} {
		for _, a := range virtual {
			if h := s.Holders(a); strings.Contains(" "+strings.Join(h, " ")+" ", " "+r+" ") {
				all = append(all, r)
				break
			}
		}
	}
	if len(all) == 0 {
		return "nobody"
	}
	return strings.Join(all, "+")
}
