package join

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestBook plays whole stories: each step is one thing that happens, after so
// much time, and what the book says to it.
func TestBook(t *testing.T) {
	type step struct {
		after time.Duration
		do    string // issue N TTL in minutes; claim N, use N, release N; wrong
		from  string // source, default 192.0.2.9
		want  string // refusal's text, "" accepted
		drop  string
		open  int // tickets afterwards
		alarm bool
	}
	wrong := func(n int, from string) []step {
		var steps []step
		for i := range n {
			a := netip.MustParseAddr(from)
			for range i {
				a = a.Next()
			}
			steps = append(steps, step{do: "wrong", from: a.String(), want: "not one of this router", drop: DropTicket, open: 1})
		}
		return steps
	}
	for name, story := range map[string][]step{
		"used once": {
			{do: "issue 1", open: 1},
			{do: "claim 1", open: 1},
			{do: "use 1"},
			{do: "claim 1", want: "used already, by r1", drop: DropUsed},
		},
		"two at once": {
			{do: "issue 1", open: 1},
			{do: "claim 1", open: 1},
			{do: "claim 1", want: "another router is joining", drop: DropUsed, open: 1},
			{do: "release 1", open: 1},
			{do: "claim 1", open: 1},
		},
		"too old": {
			{do: "issue 1", open: 1},
			{do: "issue 2", open: 2},
			{after: time.Hour - 1, do: "claim 2", open: 2},
			{after: 1, do: "claim 1", want: "too old", drop: DropUsed, open: 1},
			{do: "use 2"}, // it was served in time
		},
		"too old while it failed": {
			{do: "issue 1", open: 1},
			{do: "claim 1", open: 1},
			{after: 2 * time.Hour, do: "release 1"},
			{do: "claim 1", want: "too old", drop: DropUsed},
		},
		"no ticket": {
			{do: "wrong", want: "no ticket is valid at this router", drop: DropTicket},
			{do: "wrong", want: "no ticket is valid at this router", drop: DropTicket}, // and no delay
		},
		"a source waits twice as long each time": {
			{do: "issue 1", open: 1},
			{do: "wrong", want: "not one of this router", drop: DropTicket, open: 1},
			{do: "wrong", want: "again in 2 seconds", drop: DropDelay, open: 1},
			{after: time.Second - 1, do: "claim 1", want: "again in 1 seconds", drop: DropDelay, open: 1},
			{after: 1, do: "wrong", want: "not one of this router", drop: DropTicket, open: 1},
			{after: 2*time.Second - 1, do: "wrong", want: "again in 1 seconds", drop: DropDelay, open: 1},
			{do: "wrong", from: "192.0.2.10", want: "not one of this router", drop: DropTicket, open: 1},
			{do: "wrong", from: "::ffff:192.0.2.9", want: "again in 1 seconds", drop: DropDelay, open: 1},
			{after: 1, do: "claim 1", open: 1},
			{do: "release 1", open: 1},
			{do: "wrong", want: "not one of this router", drop: DropTicket, open: 1}, // a good one makes it forgotten
			{after: time.Second, do: "claim 1", open: 1},
		},
		"a /64 is one source": {
			{do: "issue 1", open: 1},
			{do: "wrong", from: "2001:db8::1", want: "not one of this router", drop: DropTicket, open: 1},
			{do: "claim 1", from: "2001:db8::ffff:2", want: "a wrong ticket came from your address", drop: DropDelay, open: 1},
			{do: "claim 1", from: "2001:db8:0:1::1", open: 1},
		},
		"ten wrong ones void all": append(append([]step{
			{do: "issue 1", open: 1}}, wrong(9, "198.51.100.1")...),
			step{do: "issue 2", open: 2},
			step{do: "wrong", from: "203.0.113.1", want: "not one of this router", drop: DropTicket, alarm: true},
			step{do: "claim 1", want: "void, since 10 wrong ones", drop: DropUsed},
			step{do: "issue 3", open: 1},
			step{do: "claim 3", open: 1},
		),
		"wrong ones are counted anew when no ticket was left": append(append(append([]step{
			{do: "issue 1", open: 1}}, wrong(9, "198.51.100.1")...),
			step{do: "claim 1", open: 1}, step{do: "use 1"}, step{do: "issue 2", open: 1}),
			wrong(9, "203.0.113.1")...),
		"void while it is served": append(append([]step{
			{do: "issue 1", open: 1}, {do: "claim 1", open: 1}}, wrong(9, "198.51.100.1")...),
			step{do: "wrong", from: "203.0.113.1", want: "not one of this router", drop: DropTicket, alarm: true},
			step{do: "release 1"},
			step{do: "claim 1", want: "void", drop: DropUsed},
		),
	} {
		t.Run(name, func(t *testing.T) {
			var b book
			now := time.Unix(1e9, 0)
			tickets := map[string]Ticket{}
			entries := map[string]*entry{}
			for i, s := range story {
				now = now.Add(s.after)
				verb, which, _ := strings.Cut(s.do, " ")
				var no *refusal
				from := netip.MustParseAddr("192.0.2.9")
				if s.from != "" {
					from = netip.MustParseAddr(s.from)
				}
				switch verb {
				case "issue":
					tickets[which] = newTicket(pin{}, now.Add(time.Hour))
					if err := b.issue(tickets[which], now); err != nil {
						t.Fatal(err)
					}
				case "claim":
					var e *entry
					secret := tickets[which].secret
					if e, no = b.claim(secret[:], from, now); e != nil {
						entries[which] = e
					}
				case "wrong":
					other := newTicket(pin{}, now)
					_, no = b.claim(other.secret[:], from, now)
				case "use":
					b.use(entries[which], "r"+which)
				case "release":
					b.release(entries[which])
				}
				if no == nil {
					no = &refusal{}
				}
				if (s.want == "") != (no.text == "") || !strings.Contains(no.text, s.want) || no.drop != s.drop {
					t.Fatalf("step %d, %s: %q (%s), want %q (%s)", i, s.do, no.text, no.drop, s.want, s.drop)
				}
				if got := b.open(now); got != s.open {
					t.Fatalf("step %d, %s: %d tickets open, want %d", i, s.do, got, s.open)
				}
				if (no.alarm != "") != s.alarm {
					t.Errorf("step %d, %s: alarm %q", i, s.do, no.alarm)
				}
			}
		})
	}
}

func TestBookIsBounded(t *testing.T) {
	var b book
	now := time.Unix(1e9, 0)
	issue := func() error { return b.issue(newTicket(pin{}, now.Add(time.Minute)), now) }
	for range maxOpen {
		if err := issue(); err != nil {
			t.Fatal(err)
		}
	}
	if err := issue(); err == nil || !strings.Contains(err.Error(), "16 tickets are valid already") {
		t.Errorf("one too many: error %v", err)
	}
	if got, want := b.deadline(now), now.Add(time.Minute); !got.Equal(want) {
		t.Errorf("next end %v, want %v", got, want)
	}
	for range 20 {
		now = now.Add(time.Hour)
		for range maxOpen {
			if err := issue(); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(b.entries); n > maxPast+maxOpen {
			t.Fatalf("%d tickets are remembered", n)
		}
		source := netip.MustParseAddr("198.51.100.1")
		for range 3 * maxWrong {
			b.claim(make([]byte, 16), source, now)
			source = source.Next()
		}
		if n := len(b.offenders); n > 3*maxWrong {
			t.Fatalf("%d sources are remembered", n)
		}
	}
	now = now.Add(time.Minute)
	if !b.deadline(now).IsZero() {
		t.Error("a ticket that is over will end again")
	}
}

func TestDelayIsBounded(t *testing.T) {
	var b book
	now := time.Unix(1e9, 0)
	source := netip.MustParseAddr("198.51.100.1")
	longest := time.Duration(0)
	for range 40 {
		if b.open(now) == 0 {
			if err := b.issue(newTicket(pin{}, now.Add(24*time.Hour)), now); err != nil {
				t.Fatal(err)
			}
		}
		b.claim(make([]byte, 16), source, now)
		wait := b.offenders[source].free.Sub(now)
		if wait < longest {
			t.Fatalf("the delay went down from %v to %v", longest, wait)
		}
		longest = wait
		now = now.Add(wait)
	}
	if longest != longDelay {
		t.Errorf("the longest delay is %v, want %v", longest, longDelay)
	}
}
