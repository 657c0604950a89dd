package main

import (
	"fmt"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// crash: the master loses power, the other one takes over.
func (s *story) crash() ([]string, error) {
	client, err := s.traffic()
	if err != nil {
		return nil, err
	}
	at := s.Mark("crash")
	s.times.cause(at, "r1 loses power", "-")
	if err := s.PowerOff("r1"); err != nil {
		return nil, err
	}
	s.screen.Doing("waiting for r2")
	if err := s.WaitHolder(site.LANAddress, "r2", 5*time.Second); err != nil {
		return nil, err
	}
	r, err := s.afterwards(client)
	if err != nil {
		return nil, err
	}
	held := s.got("r2", at)
	m := s.felt(r, "crash", held)
	s.times.effect(held, "r2 has the addresses", "r2", m.say()...)
	s.oneHolder(at, 0)
	s.promise(m.silence <= silenceBound+m.noise, "the gateway was silent for %s", span(m.silence))
	_, again := r.FreshAgain("crash")
	s.promise(again, "new connections do not work again")
	return m.tell("r2 is master after " + span(held.Sub(at))), nil
}

// comeBack: the better router returns, waits, and gets the role handed over.
func (s *story) comeBack() ([]string, error) {
	s.screen.Doing("booting")
	if err := s.PowerOn("r1"); err != nil {
		return nil, err
	}
	client, err := s.traffic()
	if err != nil {
		return nil, err
	}
	at := s.Mark("back")
	s.times.cause(at, "r1 is back: the daemon starts", "r2")
	if err := s.Run("r1"); err != nil {
		return nil, err
	}
	err = s.Wait("r1 is backup", "r1", 5*time.Second, func(st ha.Status) bool { return st.Role == ha.RoleBackup })
	if err != nil {
		return nil, err
	}
	s.times.effect(netlab.Now(), "r1 is backup and waits "+preemptDelay.String()+" (preempt_delay)", "r2")
	s.screen.Doing("it is backup and waits " + preemptDelay.String())
	if err := s.WaitHolder(site.LANAddress, "r1", 10*time.Second); err != nil {
		return nil, err
	}
	r, err := s.afterwards(client)
	if err != nil {
		return nil, err
	}
	held := s.got("r1", at)
	m := s.handedOver(r, "back", "r1", held)
	s.promise(held.Sub(at) >= preemptDelay, "r1 did not wait for its preempt_delay: it was master after %s", span(held.Sub(at)))
	said := m.tell("r1 waits as backup, and is master by a hand-over after " + span(held.Sub(at)))
	return said, s.Settled("r2", "r1", 5*time.Second)
}

// planned: an operator moves the role.
func (s *story) planned() ([]string, error) {
	client, err := s.traffic()
	if err != nil {
		return nil, err
	}
	at := s.Mark("planned")
	s.times.cause(at, "harouter failover", "r1")
	if _, err := s.Command("r1", "failover"); err != nil {
		return nil, err
	}
	done := netlab.Now()
	if err := s.WaitHolder(site.LANAddress, "r2", 3*time.Second); err != nil {
		return nil, err
	}
	r, err := s.afterwards(client)
	if err != nil {
		return nil, err
	}
	held := s.got("r2", at)
	m := s.handedOver(r, "planned", "r2", held)
	said := fmt.Sprintf("r2 is master after %s (the command returned after %s)", span(held.Sub(at)), span(done.Sub(at)))
	return m.tell(said), nil
}

// handedOver notes and judges a hand-over: somebody holds the addresses at any
// time, two only for a moment.
func (s *story) handedOver(r *netlab.Report, mark, to string, held netlab.Instant) move {
	m := s.felt(r, mark, held)
	s.times.effect(held, to+" has the addresses, handed over", to, m.say()...)
	vacant := s.Watch().Vacant(site.LANAddress, r.Mark(mark))
	s.promise(vacant == 0, "nobody held the gateway's address for %s", span(vacant))
	s.promise(m.silence <= handOverBound+m.noise, "the gateway was silent for %s", span(m.silence))
	s.oneHolder(r.Mark(mark), overlapBound)
	return m
}

// kill: the master's daemon dies, its guard takes the addresses away.
func (s *story) kill() ([]string, error) {
	client, err := s.traffic()
	if err != nil {
		return nil, err
	}
	at := s.Mark("kill")
	s.times.cause(at, "kill -9 of the daemon on r2", "-")
	if err := s.Daemons["r2"].Kill(); err != nil {
		return nil, err
	}
	s.screen.Doing("waiting for r1")
	if err := s.WaitHolder(site.LANAddress, "r1", 5*time.Second); err != nil {
		return nil, err
	}
	r, err := s.afterwards(client)
	if err != nil {
		return nil, err
	}
	gone, held := s.lost("r2", at), s.got("r1", at)
	m := s.felt(r, "kill", held)
	s.times.effect(gone, "its guard takes the addresses away", "-")
	s.times.effect(held, "r1 has the addresses", "r1", m.say()...)
	s.oneHolder(at, 0)
	s.promise(m.silence <= silenceBound+m.noise, "the gateway was silent for %s", span(m.silence))

	s.screen.Doing("starting it again")
	again := netlab.Now()
	if err := s.Run("r2"); err != nil {
		return nil, err
	}
	if err := s.Settled("r2", "r1", 10*time.Second); err != nil {
		return nil, err
	}
	s.times.cause(again, "the daemon on r2 is started again", "r1")
	s.times.effect(netlab.Now(), "r2 is backup", "r1")
	if err := s.Wait("r2 has all connections", "r1", 10*time.Second, func(now ha.Status) bool {
		peers := now.ConntrackSync.Peers
		return len(peers) == 1 && peers[0].State == ha.SyncSynced
	}); err != nil {
		return nil, err
	}
	s.times.effect(netlab.Now(), "r2 has all connections again", "r1")
	said := fmt.Sprintf("the guard takes the addresses away after %s, r1 is master after %s", span(gone.Sub(at)), span(held.Sub(at)))
	return m.tell(said), nil
}
