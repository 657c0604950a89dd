package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestQuota(t *testing.T) {
	for name, c := range map[string]struct {
		weights []int
		n       int
		want    []int
	}{
		"none":              {nil, 256, []int{}},
		"one":               {[]int{7}, 256, []int{256}},
		"equal":             {[]int{1, 1}, 256, []int{128, 128}},
		"2:1":               {[]int{2, 1}, 256, []int{171, 85}},
		"largest remainder": {[]int{1, 1, 1}, 256, []int{86, 85, 85}},
		"zero beside":       {[]int{0, 5}, 256, []int{0, 256}},
		"all zero":          {[]int{0, 0}, 256, []int{128, 128}},
		"tiny":              {[]int{255, 1}, 256, []int{255, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, Quota(c.weights, c.n)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func randomShares(r *rand.Rand, n int) []share {
	var out []share
	for i := range n {
		out = append(out, share{name: fmt.Sprintf("isp%d", i), id: i + 1, weight: r.IntN(10)})
	}
	return out
}

// TestAssignFillsQuotas: every slot has an owner, every owner its quota, and
// the order in which uplinks are given does not matter.
func TestAssignFillsQuotas(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		shares := randomShares(r, 1+r.IntN(16))
		slots := assign(shares)
		weights := make([]int, len(shares))
		for i, s := range shares {
			weights[i] = s.weight
		}
		count := map[int]int{}
		for _, id := range slots {
			count[id]++
		}
		for i, q := range Quota(weights, SlotCount) {
			if count[shares[i].id] != q {
				t.Fatalf("%v: %s owns %d slots, quota %d", shares, shares[i].name, count[shares[i].id], q)
			}
		}
		mixed := append([]share{}, shares...)
		r.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		if assign(mixed) != slots {
			t.Fatalf("%v: the order of the uplinks matters", shares)
		}
	}
}

// TestFewSlotsMove: when an uplink dies its slots must move; beside these only
// few do (rendezvous within quotas is not perfect), and its return gives the
// former map exactly.
func TestFewSlotsMove(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	worst := 0.0
	for range 300 {
		n := 2 + r.IntN(7)
		shares := randomShares(r, n)
		for i := range shares {
			shares[i].weight++
		}
		before := assign(shares)
		dead := r.IntN(n)
		after := assign(append(append([]share{}, shares[:dead]...), shares[dead+1:]...))
		moved := 0
		for slot, id := range before {
			if id != shares[dead].id && after[slot] != id {
				moved++
			}
		}
		worst = math.Max(worst, float64(moved)/SlotCount)
	}
	t.Logf("slots of living uplinks that moved at a death, at worst: %.1f %%", worst*100)
	if worst > 0.25 {
		t.Errorf("%.1f %% of the slots moved without need", worst*100)
	}
}
