package probe

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
)

func TestRoundIsDecidedEarly(t *testing.T) {
	type step struct {
		who  int
		rtt  time.Duration // 0: failed
		want bool          // decided after this step
	}
	ms := time.Millisecond
	for _, c := range []struct {
		name           string
		asked, quorum  int
		steps          []step
		expire, isOver bool
		want           balancer.Round
	}{
		{"one answer", 1, 1, []step{{0, ms, true}}, false, true, balancer.Round{Good: true, RTT: ms}},
		{"one failure", 1, 1, []step{{0, 0, true}}, false, true, balancer.Round{Reason: "a fails"}},
		{"first of two", 2, 1, []step{{1, 2 * ms, true}}, false, false, balancer.Round{Good: true, RTT: 2 * ms}},
		{"second answers", 2, 1, []step{{0, 0, false}, {1, ms, true}}, false, true, balancer.Round{Good: true, RTT: ms}},
		{"fastest answer until then counts", 3, 2, []step{{0, 9 * ms, false}, {1, 3 * ms, true}, {2, ms, true}}, false, true,
			balancer.Round{Good: true, RTT: 3 * ms}},
		{"quorum out of reach", 3, 2, []step{{0, ms, false}, {1, 0, false}, {2, 0, true}}, false, true,
			balancer.Round{Reason: "b fails; c fails"}},
		{"out of reach while one is open", 3, 2, []step{{0, 0, false}, {2, 0, true}}, false, false,
			balancer.Round{Reason: "a fails; c fails"}},
		{"answer twice", 3, 2, []step{{0, ms, false}, {0, ms, false}}, true, true,
			balancer.Round{Reason: "b: no answer within 80ms; c: no answer within 80ms"}},
		{"silence", 2, 1, nil, true, true, balancer.Round{Reason: "a: no answer within 80ms; b: no answer within 80ms"}},
		{"good, the rest is silent", 2, 1, []step{{0, ms, true}}, true, true, balancer.Round{Good: true, RTT: ms}},
		{"late after a sleep", 1, 1, []step{{0, time.Minute, true}}, false, true, balancer.Round{Good: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &round{timeout: 80 * ms, quorum: c.quorum}
			for who := range c.asked {
				r.ask(string(rune('a' + who)))
			}
			for i, s := range c.steps {
				if s.rtt > 0 {
					r.answered(s.who, s.rtt)
				} else {
					r.failed(s.who, r.asked[s.who]+" fails")
				}
				if r.decided != s.want {
					t.Errorf("step %d: decided %v, want %v", i, r.decided, s.want)
				}
			}
			if c.expire {
				r.expire()
			}
			if !r.decided || r.over() != c.isOver {
				t.Errorf("decided %v, over %v", r.decided, r.over())
			}
			if diff := cmp.Diff(c.want, r.result); diff != "" {
				t.Errorf("round (-want +got):\n%s", diff)
			}
		})
	}
}
