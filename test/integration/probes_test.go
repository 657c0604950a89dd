package integration

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"harouter/balancer"
	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

func init() { netlab.Role("nameserver", nameserver) }

// nameserver answers DNS and HTTP until ctx ends.
func nameserver(ctx context.Context, _ []string) error {
	dns, err := net.ListenPacket("udp4", ":53")
	if err != nil {
		return err
	}
	web := &http.Server{Addr: ":80", Handler: http.NotFoundHandler()}
	context.AfterFunc(ctx, func() { _ = errors.Join(dns.Close(), web.Close()) })
	go func() {
		for b := make([]byte, 512); ; {
			n, from, err := dns.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil {
				continue
			}
			m.Response = true
			if out, err := m.Pack(); err == nil {
				_, _ = dns.WriteTo(out, from)
			}
		}
	}()
	if err := web.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// TestProbeMethods: probes of other methods than ping get through our own
// tables on both nodes, and find out what ping does not: the hosts live, what
// they served does not.
func TestProbeMethods(t *testing.T) {
	t.Parallel()
	const icmp = "probe: {targets: [198.51.100.1, 198.51.100.2], interval: 200ms, timeout: 200ms, fall: 3, rise: 5}"
	at := strings.Index(site.Config, "  - name: dsl")
	config := site.Replace(site.Config[:at], icmp, "probe: {quorum: 2, targets: [{address: 198.51.100.1, method: dns, name: example.org}, "+
		`{address: 198.51.100.2, method: http, url: "http://www.example.org/"}], interval: 200ms, timeout: 200ms, fall: 3, rise: 2}`) +
		site.Replace(site.Config[at:], icmp, "probe: {method: tcp, quorum: 2, targets: [{address: 198.51.100.1, port: 7007}, "+
			"{address: 198.51.100.2, port: 9}], interval: 200ms, timeout: 200ms, fall: 3, rise: 2}") + "balance: {flap_hold: 0s}\n"
	c := installed(t, netlab.PairOptions{WANOwn: true}, config)
	serve := func() *netlab.Process {
		p, err := c.Node("net").StartRole("nameserver", "nameserver")
		must(t, err)
		return p
	}
	servers := serve()
	must(t, c.Up("r1", "r2"))
	views := func(what string, cable, dsl balancer.Verdict) time.Duration {
		t.Helper()
		began := netlab.Now()
		for _, r := range []string{"r1", "r2"} {
			must(t, c.Wait(what, r, 6*time.Second, func(s ha.Status) bool {
				for i, want := range []balancer.Verdict{cable, dsl} {
					u := s.Uplinks[i]
					if u.State != want || u.Views["r1"] != want || u.Views["r2"] != want {
						return false
					}
					if want == balancer.Up && (u.RTTMS == nil || *u.RTTMS <= 0) {
						return false
					}
				}
				return s.VRRP.Master == "r1"
			}))
		}
		return netlab.Now().Sub(began)
	}
	views("all up", balancer.Up, balancer.Up)
	_, err := servers.Stop(time.Second)
	must(t, err)
	atMost(t, "cable is down", views("nothing is served", balancer.Down, balancer.Up), 3*200*time.Millisecond+200*time.Millisecond+2*time.Second, "600 ms")
	servers = serve()
	views("served again", balancer.Up, balancer.Up)
	must(t, c.BlackholeBeyond("isp2"))
	atMost(t, "dsl is down", views("the other one is cut", balancer.Up, balancer.Down), 3*200*time.Millisecond+200*time.Millisecond+2*time.Second, "800 ms")
	must(t, c.Restore("isp2"))
	views("whole again", balancer.Up, balancer.Up)
	_, err = servers.Stop(time.Second)
	must(t, err)
	noLeaks(t, c)
}
