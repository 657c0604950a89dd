package integration

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
	"harouter/vrrp"
)

// TestBothStop: the second router is stopped as soon as it has taken over from
// the first: one of them keeps the addresses, not two.
func TestBothStop(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Config)
	before := all(t, c, "r1")
	must(t, c.Up("r1"))
	must(t, c.Daemons["r1"].Signal(syscall.SIGSTOP))
	var asking sync.WaitGroup
	for _, word := range []string{"status", "stop"} {
		asking.Go(func() {
			start := time.Now()
			_, err := c.Command("r1", word)
			if took := time.Since(start); err == nil || !strings.Contains(err.Error(), "gave no answer") || took > 5*time.Second {
				t.Errorf("%s: %v after %v", word, err, took)
			}
		})
	}
	asking.Wait()
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
