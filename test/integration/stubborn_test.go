package integration

import (
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
	"harouter/vrrp"
)

// TestRow18ForgedAdvert: adverts of priority 254, and farewells, with the other
// node's own address as source and TTL 255, sent by a host of the LAN: nobody
// obeys, since the node itself denies them.
func TestRow18ForgedAdvert(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	client := load(t, c)
	before := map[string]ha.Status{}
	for _, r := range []string{"r1", "r2"} {
		s, err := c.Status(r)
		must(t, err)
		before[r] = s
	}
	c.Mark("forged")
	from := func(a string, priority uint8) netlab.Forgery {
		src := netip.MustParseAddr(a)
		return netlab.Forgery{Device: "eth0", Src: src, Dst: vrrp.Group4, TTL: 255, Protocol: vrrp.Protocol, Payload: advert(t, priority, src, vrrp.Group4)}
	}
	for range 100 {
		for _, f := range []netlab.Forgery{from("192.168.77.3", 254), from("192.168.77.2", 0)} {
			must(t, c.Host("h1").SendIP(f))
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, r := range []string{"r1", "r2"} {
		must(t, c.Wait("forged adverts are counted and shown", r, 2*time.Second, func(s ha.Status) bool {
			return s.Drops.VRRP["forged"] > 0 && hasAlarm(s, ha.AlarmForgedAdvert)
		}))
		s, err := c.Status(r)
		must(t, err)
		if s.Role != before[r].Role || s.VRRP.Transitions != before[r].VRRP.Transitions {
			t.Errorf("%s was %v and is %v, %d transitions", r, before[r].Role, s.Role, s.VRRP.Transitions-before[r].VRRP.Transitions)
		}
	}
	rep := report(t, client)
	quietly(t, "silence seen by the host", rep, rep.PingGapSince("forged"), noise, "none")
	for _, r := range []string{"r1", "r2"} {
		must(t, c.Wait("the alarm goes", r, 11*time.Second, func(s ha.Status) bool { return !hasAlarm(s, ha.AlarmForgedAdvert) }))
	}
}

// TestBothStop: the second router is stopped as soon as it has taken over from
// the first: one of them keeps the addresses, not two.
func TestBothStop(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	for _, wait := range []time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond} {
		must(t, c.Daemons["r1"].Signal(syscall.SIGTERM))
		must(t, c.WaitHolder(site.LANAddress, "r2", 2*time.Second))
		time.Sleep(wait)
		must(t, c.Daemons["r2"].Signal(syscall.SIGTERM))
		for _, r := range []string{"r1", "r2"} {
			_, err := c.Daemons[r].Wait(10 * time.Second)
			must(t, err)
		}
		time.Sleep(500 * time.Millisecond) // guards that would hear each other
		if h := c.Holders(site.LANAddress); len(h) != 1 {
			t.Errorf("the second was stopped %v after it took over: held by %v", wait, h)
		}
		must(t, c.Up("r1", "r2"))
	}
}

// TestHungDaemon: commands for a daemon that does not run give up and name it;
// stop --clean ends it.
func TestHungDaemon(t *testing.T) {
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Config)
	before := all(t, c, "r1")
	must(t, c.Up("r1"))
	must(t, c.Daemons["r1"].Signal(syscall.SIGSTOP))
	for _, words := range [][]string{{"status"}, {"stop"}} {
		start := time.Now()
		_, err := c.Command("r1", words...)
		if took := time.Since(start); err == nil || !strings.Contains(err.Error(), "gave no answer") || took > 5*time.Second {
			t.Errorf("%v: %v after %v", words, err, took)
		}
	}
	_, err := c.Command("r1", "stop", "--clean")
	must(t, err)
	if after := all(t, c, "r1"); after != before {
		t.Errorf("stop --clean left something:\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// TestLogWithoutReader: the log goes into a pipe that is full, and the router
// goes on.
func TestLogWithoutReader(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Replace(site.Config, "lans:", "log: {level: debug}\nlans:"))
	must(t, c.Run("r2"))
	r1 := c.Router("r1")
	fifo := r1.Dir() + "/log"
	must(t, syscall.Mkfifo(fifo, 0o600))
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0) // never read
	must(t, err)
	defer reader.Close()
	filler, err := syscall.Open(fifo, syscall.O_WRONLY|syscall.O_NONBLOCK, 0)
	must(t, err)
	for err == nil {
		_, err = syscall.Write(filler, make([]byte, 4096))
	}
	must(t, syscall.Close(filler))
	quoted := make([]string, 0, 10)
	for _, a := range c.Args("r1", "run") {
		quoted = append(quoted, "'"+a+"'")
	}
	p, err := r1.Start("stalled", "sh", "-c", "exec "+strings.Join(quoted, " ")+" 2>"+fifo)
	must(t, err)
	c.Daemons["r1"] = p
	must(t, c.Settled("r1", "r1", 15*time.Second))
	at := c.Mark("garbage") // each packet is a line of the log
	for range 200 {
		must(t, c.Host("h1").SendIP(netlab.Forgery{Device: "eth0", Src: netip.MustParseAddr("192.168.77.66"), Dst: vrrp.Group4, TTL: 255,
			Protocol: vrrp.Protocol, Payload: advert(t, 254, netip.MustParseAddr("192.168.77.66"), vrrp.Group4)}))
	}
	time.Sleep(time.Second)
	must(t, c.Settled("r1", "r1", time.Second))
	if g := c.Watch().Vacant(site.LANAddress, at); g > noise {
		t.Errorf("nobody held the address for %v", g)
	}
	_, err = c.Command("r1", "failover", "--to", "r2")
	must(t, err)
}
