package balancer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func wanted(to string) Wanted { return Wanted{"default", netip.MustParseAddrPort(to)} }

func TestRacesOfADestination(t *testing.T) {
	both := []RaceSet{{Policy: "default", Uplinks: []string{"cable", "dsl"}, Lasts: 10 * time.Minute}}
	others := []RaceSet{{Policy: "default", Uplinks: []string{"dsl", "lte"}, Lasts: 10 * time.Minute}}
	web, mail := wanted("198.51.100.1:443"), wanted("198.51.100.1:25")
	for _, c := range []struct {
		name   string
		sets   []RaceSet
		first  Wanted
		winner string
		after  time.Duration
		then   []RaceSet
		second Wanted
		again  bool
	}{
		{"the kernel knows in a moment", both, web, "cable", time.Second, both, web, false},
		{"by another port too", both, web, "cable", time.Second, both, mail, false},
		{"wanted after a minute, the kernel forgot", both, web, "cable", time.Minute, both, web, true},
		{"the winner is dead", both, web, "cable", time.Second, others, web, true},
		{"another is dead", both, web, "dsl", time.Second, others, web, false},
		{"nobody came through", both, web, "", 4 * time.Second, both, web, false},
		{"nobody came through, a while ago", both, web, "", 5 * time.Second, both, web, true},
		{"nobody came through to one port", both, web, "", time.Second, both, mail, true},
		{"too few are left", both, web, "", time.Hour, []RaceSet{{Policy: "default", Uplinks: []string{"dsl"}}}, web, false},
		{"the policy is gone", both, web, "", time.Hour, nil, web, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Races
			now := time.Unix(1, 0)
			got := r.Next(c.sets, []Wanted{c.first, c.first}, now)
			if d := cmp.Diff([]Race{{c.first, c.sets[0].Uplinks, c.sets[0].Lasts}}, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
				t.Fatalf("first (-want +got):\n%s", d)
			}
			if more := r.Next(c.sets, []Wanted{c.first}, now); more != nil {
				t.Errorf("it runs, and is run again: %v", more)
			}
			place, ok := r.Done(got[0], c.winner, now)
			want := Place{}
			if c.winner != "" {
				want = Place{Policy: "default", Uplink: c.winner, Destination: c.first.To.Addr(), Left: 10 * time.Minute}
			}
			if place != want || ok != (c.winner != "") {
				t.Errorf("remembered: %+v", place)
			}
			if again := r.Next(c.then, []Wanted{c.second}, now.Add(c.after)); (len(again) == 1) != c.again {
				t.Errorf("again: %v", again)
			}
		})
	}
}

// TestWinnerThatReturns: what the kernel forgot of an uplink that was dead for a
// moment is found out anew.
func TestWinnerThatReturns(t *testing.T) {
	both := []RaceSet{{Policy: "default", Uplinks: []string{"cable", "dsl"}, Lasts: time.Hour}}
	others := []RaceSet{{Policy: "default", Uplinks: []string{"dsl", "lte"}, Lasts: time.Hour}}
	web, mail := wanted("198.51.100.1:443"), wanted("198.51.100.2:25")
	for _, c := range []struct {
		name      string
		meanwhile []RaceSet
		again     []Wanted
	}{
		{"nothing happened", both, nil},
		{"two others are left", others, []Wanted{web}},
		{"no two are left", nil, []Wanted{web, mail}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Races
			now := time.Unix(1, 0)
			races := r.Next(both, []Wanted{web, mail}, now)
			r.Done(races[0], "cable", now)
			r.Done(races[1], "dsl", now)
			r.Next(c.meanwhile, nil, now.Add(time.Second))
			var again []Wanted
			for _, race := range r.Next(both, []Wanted{web, mail}, now.Add(2*time.Second)) {
				again = append(again, race.Wanted)
			}
			if !slices.Equal(again, c.again) {
				t.Errorf("run again: %v, want %v", again, c.again)
			}
		})
	}
}

// TestRaceThatNobodyWins: it is run again soon, then less and less often, and anew
// after somebody won.
func TestRaceThatNobodyWins(t *testing.T) {
	sets := []RaceSet{{Policy: "default", Uplinks: []string{"cable", "dsl"}, Lasts: 30 * time.Second}}
	web := wanted("198.51.100.1:443")
	var r Races
	var at []int
	for i := range 150 {
		now := time.Unix(1, 0).Add(time.Duration(i) * time.Second)
		for _, race := range r.Next(sets, []Wanted{web}, now) {
			at = append(at, i)
			winner := ""
			if i == 95 {
				winner = "dsl"
			}
			r.Done(race, winner, now)
		}
	}
	if d := cmp.Diff([]int{0, 5, 15, 35, 65, 95, 125, 130, 140}, at); d != "" {
		t.Errorf("run at these seconds (-want +got):\n%s", d)
	}
}

func TestRacesAreBounded(t *testing.T) {
	sets := []RaceSet{{Policy: "default", Uplinks: []string{"cable", "dsl"}, Lasts: time.Hour}}
	var many []Wanted
	for i := range 3 * racesKnown {
		many = append(many, Wanted{"default", netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), 443)})
	}
	var r Races
	now := time.Unix(1, 0)
	first := r.Next(sets, many, now)
	if len(first) != racesPerSecond {
		t.Errorf("%d at once, want %d", len(first), racesPerSecond)
	}
	if n := len(r.Next(sets, many, now.Add(10*time.Second))); n != racesAtOnce-racesPerSecond {
		t.Errorf("%d beside those that run", n)
	}
	r = Races{}
	ran := 0
	for i := range 2 * racesKnown / racesPerSecond {
		for _, race := range r.Next(sets, many[ran:], now.Add(time.Duration(i)*time.Second)) {
			ran++
			r.Done(race, "", now.Add(time.Duration(i)*time.Second))
		}
	}
	// The first ones are forgotten after an hour, which makes room.
	if len(r.known) > racesKnown || ran < racesKnown {
		t.Errorf("%d in the book, %d were run", len(r.known), ran)
	}
}

func TestRaceable(t *testing.T) {
	for to, want := range map[string]bool{
		"198.51.100.1:443": true, "8.8.8.8:53": true, "198.51.100.1:0": false, "10.1.2.3:80": false, "172.31.0.1:80": false, "192.168.77.5:80": false,
		"100.64.0.1:80": false, "127.0.0.1:80": false, "169.254.1.1:80": false, "224.0.0.1:80": false, "0.1.2.3:80": false, "255.255.255.255:80": false,
		"240.0.0.1:80": false, "[2001:db8::1]:80": false,
	} {
		if got := raceable(netip.MustParseAddrPort(to)); got != want {
			t.Errorf("%s: %v", to, got)
		}
	}
}

// TestRacersInThePlan: who may run, by the uplinks' health, and that what was
// learned of the others is forgotten.
func TestRacersInThePlan(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config, *Input)
		races  []string
		knows  []string
	}{
		{"both", func(*Config, *Input) {}, []string{"cable", "dsl"}, []string{"cable", "dsl"}},
		{"one dead", func(_ *Config, in *Input) { in.Usable["dsl"], in.Verdicts["dsl"] = false, Down }, nil, []string{"cable"}},
		{"one degraded", func(_ *Config, in *Input) { in.Verdicts["cable"] = Degraded }, nil, []string{"dsl"}},
		{"all degraded", func(_ *Config, in *Input) { in.Verdicts["cable"], in.Verdicts["dsl"] = Degraded, Degraded }, []string{"cable", "dsl"}, []string{"cable", "dsl"}},
		{"all dead", func(_ *Config, in *Input) { in.Usable = nil }, nil, nil},
		{"one metered", func(c *Config, _ *Input) { c.Uplinks[1].Metered = true }, nil, []string{"cable"}},
		{"two tiers", func(c *Config, _ *Input) { c.Uplinks[1].Tier = 2 }, nil, []string{"cable"}},
		{"one without a weight", func(c *Config, _ *Input) { c.Uplinks[0].Weight = 0 }, nil, []string{"dsl"}},
		{"no time", func(c *Config, _ *Input) { c.Policies[0].Learned = 0 }, nil, nil},
	} {
		c, in := pair()
		c.Policies = []Policy{{Name: "default", Method: FastestResponse, Learned: time.Minute}}
		test.change(&c, &in)
		p, err := Build(c, in)
		if err != nil {
			t.Fatal(err)
		}
		var races, knows []string
		for _, r := range p.Races {
			races = append(races, r.Uplinks...)
		}
		for _, l := range p.Learned {
			knows = append(knows, l.Uplink)
			if text := p.Table.String(); !strings.Contains(text, fmt.Sprintf("ip daddr @%s goto up_%s", l.Name, l.Uplink)) {
				t.Errorf("%s: %s is never asked:\n%s", test.name, l.Name, text)
			}
		}
		if !slices.Equal(races, test.races) || !slices.Equal(knows, test.knows) {
			t.Errorf("%s: %v race, the table knows of %v", test.name, races, knows)
		}
	}
}
