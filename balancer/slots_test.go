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
		out = append(out, share{name: fmt.Sprintf("isp%d", i), id: i + 1, weight: r.IntN(10), usable: true})
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

// TestFewSlotsMove: at a death the dead one's slots move, and beside these at
// most one of each other uplink (rounding). Its return gives the former map, on
// a node that never heard of the death too: the map has no history.
func TestFewSlotsMove(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	second, weights := 0, 0
	for range 200 {
		n := 3 + r.IntN(14)
		shares := randomShares(r, n)
		for i := range shares {
			shares[i].weight++
		}
		all := assign(shares)
		dead := r.Perm(n)[:2]
		before := all
		for k, d := range dead {
			shares[d].usable = false
			after := assign(shares)
			moved := map[int]int{}
			total := 0
			for slot, id := range before {
				if after[slot] == shares[d].id {
					t.Fatalf("slot %d is given to the dead uplink %d", slot, id)
				}
				if id != shares[d].id && after[slot] != id {
					moved[id]++
					total++
				}
			}
			for id, m := range moved {
				if k == 0 && m > 1 {
					t.Errorf("of %d uplinks, %d living slots of uplink %d moved at the death of %d", n, m, id, shares[d].id)
				}
			}
			second = max(second, total)
			before = after
		}
		for _, d := range dead {
			shares[d].usable = true
		}
		if assign(shares) != all {
			t.Error("the return of both did not give the former map")
		}
		// A changed weight.
		shares[0].weight++
		changed := 0
		for slot, id := range assign(shares) {
			if id != all[slot] {
				changed++
			}
		}
		weights = max(weights, changed)
	}
	t.Logf("living slots that moved, at worst: at a second death %d, at a weight plus 1 %d", second, weights)
	if second > SlotCount/8 || weights > SlotCount/4 {
		t.Errorf("too many slots moved without need")
	}
}

// TestDegradedMovesFewSlots: whatever becomes of the verdicts, all 256 slots
// have an owner that is usable; one that becomes degraded loses slots and gets
// none, as few as its quota wants; the others lose one at most, or some where
// others are down already; and who is well again has what he had.
func TestDegradedMovesFewSlots(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		n := 2 + r.IntN(15)
		shares := randomShares(r, n)
		first := r.IntN(2) == 0
		for i := range shares {
			shares[i].weight++
			shares[i].usable = first || r.IntN(5) > 0
		}
		k := r.IntN(n)
		shares[k].usable = true
		before := assign(shares)
		had := owned(before)
		shares[k].degraded = true
		after := assign(shares)
		has := owned(after)

		alone, quota := true, quotas(shares)
		total := 0
		for i, s := range shares {
			alone = alone && (i == k || !s.usable)
			total += has[s.id]
			if has[s.id] != quota[i] || !s.usable && has[s.id] > 0 {
				t.Fatalf("%+v owns %d slots, its quota is %d", s, has[s.id], quota[i])
			}
		}
		if total != SlotCount {
			t.Fatalf("%d slots have an owner", total)
		}
		if alone {
			if after != before {
				t.Errorf("%v: slots moved although there is no other", shares)
			}
			continue
		}
		if has[k+1] >= had[k+1] {
			t.Errorf("%v: %s owns %d slots, before it was degraded %d", shares, shares[k].name, has[k+1], had[k+1])
		}
		lost := map[int]int{}
		for slot, id := range before {
			if after[slot] != id {
				lost[id]++
				if after[slot] == k+1 {
					t.Errorf("slot %d goes to %s, which is degraded", slot, shares[k].name)
				}
			}
		}
		others := 0
		for id, n := range lost {
			if id != k+1 {
				others += n
				if first && n > 1 {
					t.Errorf("%v: uplink %d lost %d slots", shares, id, n)
				}
			}
		}
		if others > SlotCount/16 {
			t.Errorf("%v: those that are well lost %d slots", shares, others)
		}
		if lost[k+1] != had[k+1]-has[k+1] {
			t.Errorf("%v: %s lost %d slots, wanted %d", shares, shares[k].name, lost[k+1], had[k+1]-has[k+1])
		}

		shares[k].degraded = false
		if assign(shares) != before {
			t.Error("well again, and the map is another")
		}
		for i := range shares {
			shares[i].degraded = true
		}
		if assign(shares) != before {
			t.Error("all degraded, and the map is not that of all up")
		}
	}
}

func owned(slots [SlotCount]int) map[int]int {
	n := map[int]int{}
	for _, id := range slots {
		n[id]++
	}
	return n
}

// FuzzQuota: whatever the weights, all is handed out, and to nobody more than
// one beside his exact share.
func FuzzQuota(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint16(256))
	f.Add([]byte{0, 0}, uint16(256))
	f.Add([]byte{255, 1}, uint16(7))
	f.Fuzz(func(t *testing.T, weights []byte, n uint16) {
		if len(weights) == 0 {
			return
		}
		var ws []int
		sum := 0
		for _, w := range weights {
			ws = append(ws, int(w))
			sum += int(w)
		}
		total := 0
		for i, q := range Quota(ws, int(n)) {
			total += q
			exact := float64(n) / float64(len(ws))
			if sum > 0 {
				exact = float64(n) * float64(ws[i]) / float64(sum)
			}
			if math.Abs(float64(q)-exact) >= 1 {
				t.Errorf("Quota(%v, %d)[%d] = %d, exact share %f", ws, n, i, q, exact)
			}
		}
		if total != int(n) {
			t.Errorf("Quota(%v, %d) hands out %d", ws, n, total)
		}
	})
}

// TestWeightsMoveFewSlots: when one weight changes, the slots that must move are
// those of the difference of the quotas; that the map has no history costs some
// more, of which this keeps watch.
func TestWeightsMoveFewSlots(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 3))
	moved, needed, worst := 0, 0, 0.0
	for range 300 {
		shares := randomShares(r, 2+r.IntN(15))
		for i := range shares {
			shares[i].weight++
		}
		before := assign(shares)
		k := r.IntN(len(shares))
		shares[k].weight = 1 + r.IntN(10)
		after := assign(shares)
		n, must := 0, 0
		had, has := owned(before), owned(after)
		for _, s := range shares {
			must += max(had[s.id]-has[s.id], 0)
		}
		for slot := range before {
			if before[slot] != after[slot] {
				n++
			}
		}
		if must > 0 {
			worst = max(worst, float64(n)/float64(must))
		}
		moved, needed = moved+n, needed+must
	}
	t.Logf("%d slots moved, %d had to; worst %.1f times", moved, needed, worst)
	if moved*2 > needed*3 {
		t.Errorf("%d slots moved, %d had to", moved, needed)
	}
}
