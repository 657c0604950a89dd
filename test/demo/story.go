package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// story is the demo while it runs.
type story struct {
	*site.Cluster
	screen   *screen
	times    timeline
	failures []string // what was not as promised
}

// step is one chapter: it does something to the site and says what came of it.
type step struct {
	title string
	play  func(*story) ([]string, error)
}

var steps = []step{
	{"both routers start", (*story).start},
	{"new connections are spread over the ISPs, 2 : 1", (*story).split},
	{"r1, the master, loses power", (*story).crash},
	{"r1 has power again", (*story).comeBack},
	{"ISP dsl dies behind its gateway, without a word", (*story).ispDies},
	{"ISP dsl works again", (*story).ispReturns},
	{"somebody types `harouter failover`", (*story).planned},
	{"the daemon on r2, the master, is killed (kill -9)", (*story).kill},
}

// tell plays all steps; it ends early if the site is not where a step begins.
func (s *story) tell() error {
	for i, step := range steps {
		title := fmt.Sprintf("%d/%d %s", i+1, len(steps), step.title)
		s.screen.Begin(title)
		known := len(s.failures)
		lines, err := step.play(s)
		for i := range lines {
			lines[i] = "    " + lines[i]
		}
		for _, f := range s.failures[known:] {
			lines = append(lines, s.screen.red("    NOT AS PROMISED: "+f))
		}
		s.screen.End(lines...)
		if err != nil {
			return fmt.Errorf("%s: %w", title, err)
		}
	}
	return nil
}

// sum shows the timeline, and what a router says at the end.
func (s *story) sum(failed error) {
	if len(s.times.rows) > 0 {
		s.screen.Print("")
		s.screen.Print(s.times.Lines(s.screen.bold)...)
	}
	if failed != nil {
		s.logs()
		return
	}
	if status, err := s.Command("r1", "status"); err == nil {
		s.screen.Print("", s.screen.bold("harouter status, on r1:"), "", strings.TrimRight(status, "\n"), "")
	} else {
		s.failures = append(s.failures, err.Error())
	}
	switch {
	case len(s.failures) > 0: // said where it happened, and by broken
	default:
		s.screen.Print(s.screen.green("Everything happened as promised."))
	}
}

// logs shows the ends of the daemons' logs, before they go with the site.
func (s *story) logs() {
	for _, r := range []string{"r1", "r2"} {
		log := strings.TrimSpace(s.Log(r))
		if log == "" {
			s.screen.Print("", r+" has logged nothing")
			continue
		}
		lines := strings.Split(log, "\n")
		s.screen.Print("", "the end of the log of "+r+":")
		s.screen.Print(lines[max(0, len(lines)-8):]...)
	}
}

// promise notes what was not as promised.
func (s *story) promise(kept bool, format string, args ...any) {
	if !kept {
		s.failures = append(s.failures, fmt.Sprintf(format, args...))
	}
}

func (s *story) broken() error {
	if len(s.failures) == 0 {
		return nil
	}
	return errors.New("not as promised: " + strings.Join(s.failures, "; "))
}

// start: the daemons find each other and elect a master.
func (s *story) start() ([]string, error) {
	s.times.begin = s.Mark("start")
	s.times.cause(s.times.begin, "r1 (priority 200) and r2 (priority 150) start", "-")
	if err := s.Up("r1", "r2"); err != nil {
		return nil, err
	}
	held := s.got("r1", s.times.begin)
	after := held.Sub(s.times.begin)
	s.times.effect(held, "r1 is elected", "r1", "its gateway answers")
	s.promise(s.Host("h1").Reaches(site.LANAddress, time.Second), "the host does not reach its gateway")
	s.promise(len(s.Holders(site.LANAddress)) == 1, "%d routers hold the gateway's address", len(s.Holders(site.LANAddress)))
	return []string{fmt.Sprintf("r1 is master after %s, r2 is backup; both ISPs are up", span(after))}, nil
}

// The new connections of split: how many, how many of them cable should get,
// and how far from that chance may take it (four standard deviations).
const (
	connections = 150
	expected    = connections * 2 / 3
	chance      = 23
)

// split: fresh connections are spread by the weights.
func (s *story) split() ([]string, error) {
	client, err := s.Load("h1", netlab.Load{Drain: drain, Fresh: []netlab.Fresh{
		{Server: server, Interval: 10 * time.Millisecond, Count: connections}}})
	if err != nil {
		return nil, err
	}
	at := netlab.Now()
	err = netlab.WaitFor("all connections are done", 10*time.Second, func() bool {
		now, err := client.Snapshot()
		s.screen.Doing(fmt.Sprintf("%d of %d", now.FreshOK, connections))
		return err == nil && now.FreshOK+now.FreshFailed >= connections
	})
	if err != nil {
		return nil, err
	}
	r, err := client.Stop()
	if err != nil {
		return nil, err
	}
	by, failed := r.FreshByISP(0, 0), r.FreshFailedSince("")
	said := fmt.Sprintf("%d by cable, %d by dsl", by["cable"], by["dsl"])
	s.times.cause(at, fmt.Sprintf("%d new connections", connections), "r1", said, fmt.Sprintf("%d failed", failed))
	s.promise(failed == 0, "%d of %d new connections failed", failed, connections)
	s.promise(by["cable"] > expected-chance && by["cable"] < expected+chance, "%s: that is not 2 : 1", said)
	return []string{fmt.Sprintf("of %d new connections %s; %d failed", connections, said, failed)}, nil
}
