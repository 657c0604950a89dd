package balancer

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func held(id uint32, from string) Held {
	return Held{Queue: firstQueue, ID: id, From: netip.MustParseAddrPort(from), To: netip.MustParseAddrPort("198.51.100.1:443")}
}

func ids(packets []Held) (out []uint32) {
	for _, p := range packets {
		out = append(out, p.ID)
	}
	slices.Sort(out)
	return out
}

func TestHolds(t *testing.T) {
	var h Holds
	now := time.Unix(1, 0)
	web, mail := wanted("198.51.100.1:443"), wanted("198.51.100.1:25")
	if _, ok := h.Next(); ok || len(h.Over(now)) > 0 || len(h.Release(web)) > 0 {
		t.Error("nobody came, and somebody waits")
	}
	for _, c := range []struct {
		name string
		w    Wanted
		p    Held
		at   time.Duration
		kept bool
	}{
		{"the first", web, held(1, "192.168.77.10:1000"), 0, true},
		{"the same flow's", web, held(2, "192.168.77.10:1000"), 100 * time.Millisecond, false},
		{"another flow's", web, held(3, "192.168.77.10:1001"), 200 * time.Millisecond, true},
		{"another host's", web, held(4, "192.168.77.11:1000"), 200 * time.Millisecond, true},
		{"to another port", mail, held(5, "192.168.77.10:1000"), 250 * time.Millisecond, true},
	} {
		if got := h.Add(c.w, c.p, now.Add(c.at)); got != c.kept {
			t.Errorf("%s: kept %v", c.name, got)
		}
	}
	if at, ok := h.Next(); !ok || !at.Equal(now.Add(HoldFor)) {
		t.Errorf("next at %v", at)
	}
	if got := h.Over(now.Add(HoldFor - 1)); len(got) > 0 {
		t.Errorf("too early: %v", got)
	}
	if d := cmp.Diff([]uint32{1, 3, 4}, ids(h.Over(now.Add(HoldFor)))); d != "" {
		t.Errorf("over (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]uint32{5}, ids(h.Release(mail))); d != "" {
		t.Errorf("released (-want +got):\n%s", d)
	}
	if _, ok := h.Next(); ok {
		t.Error("all went, and somebody waits")
	}
}

func TestAskWhatBecomesOfAFirstPacket(t *testing.T) {
	both := []RaceSet{{Policy: "default", Uplinks: []string{"cable", "dsl"}, Lasts: time.Hour}}
	web, mail := wanted("198.51.100.1:443"), wanted("198.51.100.1:25")
	now := time.Unix(1, 0)
	ran := func(winner string) *Races {
		r := &Races{}
		r.Done(r.Next(both, []Wanted{web}, now)[0], winner, now)
		return r
	}
	running := &Races{}
	running.Next(both, []Wanted{web}, now)
	spent := &Races{}
	for i := range racesPerSecond {
		w := web
		w.To = netip.AddrPortFrom(w.To.Addr(), uint16(1000+i))
		spent.Next(both, []Wanted{w}, now)
	}
	for _, c := range []struct {
		name   string
		book   *Races
		sets   []RaceSet
		w      Wanted
		winner string
		race   bool
		waits  bool
	}{
		{"nothing is known", &Races{}, both, web, "", true, true},
		{"it runs", running, both, web, "", false, true},
		{"to another port it does not", running, both, mail, "", true, true},
		{"there is a winner", ran("dsl"), both, web, "dsl", false, false},
		{"to another port too", ran("dsl"), both, mail, "dsl", false, false},
		{"the winner is dead", ran("lte"), both, web, "", true, true},
		{"nobody came through", ran(""), both, web, "", false, false},
		{"too many run", spent, both, web, "", false, false},
		{"at home", &Races{}, both, wanted("10.1.2.3:80"), "", false, false},
		{"on a backup", &Races{}, nil, web, "", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			winner, race, waits := c.book.Ask(c.sets, c.w, now)
			if winner != c.winner || (race != nil) != c.race || waits != c.waits {
				t.Errorf("winner %q, race %v, waits %v", winner, race, waits)
			}
			if race != nil {
				if _, again, waits := c.book.Ask(c.sets, c.w, now); again != nil || !waits {
					t.Error("a second packet is raced too")
				}
			}
		})
	}
}

func TestMarkOfAHeldPacket(t *testing.T) {
	if got := (Held{Mark: 0xabc00155}).Marked(0x200, 0x3f00); got != 0xabc00255 {
		t.Errorf("%#x", got)
	}
}

// TestHoldInThePlan: packets wait where there is a race to wait for.
func TestHoldInThePlan(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config, *Input)
		holds  bool
	}{
		{"two race", func(*Config, *Input) {}, true},
		{"learn", func(c *Config, _ *Input) { c.Policies[0].Hold = false }, false},
		{"one is dead", func(_ *Config, in *Input) { in.Usable["dsl"], in.Verdicts["dsl"] = false, Down }, false},
		{"one is metered", func(c *Config, _ *Input) { c.Uplinks[1].Metered = true }, false},
		{"another method", func(c *Config, _ *Input) { c.Policies[0].Method = Weighted }, false},
	} {
		c, in := pair()
		c.Policies = []Policy{{Name: "web", Method: FastestResponse, Learned: time.Minute, Hold: true}, {Name: "default"}}
		test.change(&c, &in)
		p, err := Build(c, in)
		if err != nil {
			t.Fatal(err)
		}
		text := p.Table.String()
		for _, part := range []string{
			"queue flags bypass to 7000\n", "goto hold_web/cable", "chain hold_web/dsl {", "set held_web {",
			"ip daddr . tcp dport != @wanted_web add @wanted_web { ip daddr . tcp dport timeout 10s } add @held_web { ip daddr . tcp dport timeout 300ms }\n",
		} {
			if strings.Contains(text, part) != test.holds {
				t.Errorf("%s: %q in the table is %v:\n%s", test.name, part, !test.holds, text)
			}
		}
		if p.Table.Queues() != test.holds || p.Table.WithoutQueue().Queues() {
			t.Errorf("%s: queues %v", test.name, p.Table.Queues())
		}
		if p.Races != nil && (p.Races[0].Queue != 0) != test.holds {
			t.Errorf("%s: %+v", test.name, p.Races)
		}
		if test.holds && !strings.Contains(p.Table.WithoutQueue().String(), "chain hold_web/dsl {\n\t\tgoto up_dsl\n") {
			t.Errorf("without a queue:\n%s", p.Table.WithoutQueue())
		}
	}
}
