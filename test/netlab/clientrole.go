package netlab

import (
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// clientRole is the child's side of Client.
type clientRole struct {
	id      uint32
	load    Load
	begin   Instant
	pulses  pulses
	streams []*stream
	fresh   []*freshRun
	quit    chan struct{}
	tickers sync.WaitGroup
	stalls  stalls
}

func newClientRole() *clientRole {
	return &clientRole{id: rand.Uint32(), quit: make(chan struct{})}
}

func (c *clientRole) handle(verb string, body json.RawMessage) (any, error) {
	switch verb {
	case "start":
		if err := json.Unmarshal(body, &c.load); err != nil {
			return nil, err
		}
		return nil, c.start()
	case "snapshot":
		return c.snapshot(), nil
	case "poke":
		var within time.Duration
		if err := json.Unmarshal(body, &within); err != nil {
			return nil, err
		}
		return nil, c.poke(within)
	case "stop":
		var file string
		if err := json.Unmarshal(body, &file); err != nil {
			return nil, err
		}
		return nil, c.stop(file)
	}
	return nil, fmt.Errorf("a client does not know %q", verb)
}

func (c *clientRole) start() error {
	c.begin = Now()
	number := uint32(0)
	for _, g := range c.load.UDP {
		var group []*pulse
		for range max(g.Flows, 1) {
			p, err := newUDPPulse(c.id, number, g)
			if err != nil {
				return err
			}
			group = append(group, p)
			number++
		}
		c.pulses.add(g.Interval, group...)
	}
	for i, g := range c.load.Ping {
		p, err := newPingPulse(c.id+uint32(i), g)
		if err != nil {
			return err
		}
		c.pulses.add(g.Interval, p)
	}
	if err := c.dial(); err != nil {
		return err
	}
	c.stalls.start()
	c.pulses.start()
	if err := c.firstAnswers(5 * time.Second); err != nil {
		return err
	}
	for _, f := range c.load.Fresh {
		r := newFreshRun(f)
		c.fresh = append(c.fresh, r)
		r.all.Add(1)
		go r.run()
	}
	return nil
}

// dial opens all established flows at once and starts their tickers.
func (c *clientRole) dial() error {
	var mu sync.Mutex
	var errs []error
	var dialing sync.WaitGroup
	number := uint32(0)
	groups := make([][]*stream, len(c.load.TCP))
	for i, g := range c.load.TCP {
		for range max(g.Flows, 1) {
			number++
			dialing.Add(1)
			go func(number uint32) {
				defer dialing.Done()
				s, err := dialStream(number-1, g)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs = append(errs, err)
					return
				}
				groups[i] = append(groups[i], s)
			}(number)
		}
	}
	dialing.Wait()
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for i, group := range groups {
		slices.SortFunc(group, func(a, b *stream) int { return int(a.number) - int(b.number) })
		c.streams = append(c.streams, group...)
		for _, s := range group {
			s.start()
		}
		if g := c.load.TCP[i]; g.Mode == Echo && g.Interval > 0 {
			c.tickers.Add(1)
			go c.tick(g.Interval, group)
		}
	}
	return nil
}

func (c *clientRole) tick(every time.Duration, group []*stream) {
	defer c.tickers.Done()
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-c.quit:
			return
		case <-t.C:
		}
		for _, s := range group {
			select {
			case s.tick <- struct{}{}:
			default: // it has been unable to write for 256 messages: enough
			}
		}
	}
}

func (c *clientRole) firstAnswers(within time.Duration) error {
	return poll(within, func() error {
		var err error
		c.pulses.each(func(p *pulse) {
			if !p.ping && p.top == 0 {
				err = fmt.Errorf("%s to %s has no answer", p.flow.Name, p.flow.Target)
			}
		})
		return err
	})
}

func (c *clientRole) poke(within time.Duration) error {
	var idle []*stream
	for _, s := range c.streams {
		if s.group.Mode == Echo && s.group.Interval == 0 {
			idle = append(idle, s)
			s.tick <- struct{}{}
		}
	}
	return poll(within, func() error {
		var errs []error
		for _, s := range idle {
			s.mu.Lock()
			if n := len(s.rec.Echo); n == 0 || s.rec.Echo[n-1] == 0 {
				errs = append(errs, fmt.Errorf("%s has no answer %s", s.rec.Name, s.rec.Err))
			}
			s.mu.Unlock()
		}
		return errors.Join(errs...)
	})
}

func (c *clientRole) snapshot() Snapshot {
	s := Snapshot{At: Now(), Uplinks: map[netip.Addr]int{}}
	c.pulses.each(func(p *pulse) {
		if p.ping {
			s.PingSilent = max(s.PingSilent, s.At.Sub(p.last))
			return
		}
		s.Silent = max(s.Silent, s.At.Sub(p.last))
		s.UDPSent += len(p.flow.Sent)
		s.UDPEchoed += p.flow.answers()
		if n := len(p.flow.Seen); n > 0 {
			s.Uplinks[p.flow.Seen[n-1].From.Addr()]++
		}
	})
	for _, f := range c.fresh {
		ok, failed := f.count()
		s.FreshOK += ok
		s.FreshFailed += failed
	}
	for _, t := range c.streams {
		s.TCP++
		t.mu.Lock()
		if t.rec.Err == "" {
			s.TCPAlive++
		}
		t.mu.Unlock()
	}
	return s
}

func (c *clientRole) stop(file string) error {
	r := Report{Begin: c.begin, End: Now()}
	close(c.quit)
	c.tickers.Wait()
	for _, f := range c.fresh {
		r.Fresh = append(r.Fresh, f.stop()...)
	}
	slices.SortFunc(r.Fresh, func(a, b Attempt) int { return int(a.Start - b.Start) })
	deadline := time.Now().Add(c.load.Drain)
	var closing sync.WaitGroup
	r.TCP = make([]Stream, len(c.streams))
	for i, s := range c.streams {
		closing.Add(1)
		go func() {
			defer closing.Done()
			r.TCP[i] = s.stop(deadline)
		}()
	}
	if c.pulses.done != nil {
		c.pulses.stop(c.load.Drain)
	}
	closing.Wait()
	c.pulses.each(func(p *pulse) {
		if p.ping {
			r.Ping = append(r.Ping, p.flow)
		} else {
			r.UDP = append(r.UDP, p.flow)
		}
	})
	r.Lag, r.Stalls = c.pulses.lag, c.stalls.stop()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(gob.NewEncoder(f).Encode(r), f.Close())
}

// poll tries until there is no error, or gives the last one back in the end.
func poll(within time.Duration, try func() error) error {
	for deadline := Now().Add(within); ; time.Sleep(2 * time.Millisecond) {
		err := try()
		if err == nil || Now() > deadline {
			return err
		}
	}
}
