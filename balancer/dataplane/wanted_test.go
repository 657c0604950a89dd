package dataplane

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
	"harouter/test/netlab"
)

// TestFastestResponse: the kernel notes where a first flow went, later ones follow
// the winner, and one that dies is forgotten.
func TestFastestResponse(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	k, c, in := master(t)
	server.serve(80)
	c.Policies = []balancer.Policy{{Name: "default", Method: balancer.FastestResponse, Learned: time.Minute}}
	c.Uplinks[0].Weight, c.Uplinks[1].Weight = 1, 0 // else nobody knows where the first went
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if sets, wanted, err := k.Wanted(); err != nil || len(sets)+len(wanted) > 0 {
		t.Errorf("one uplink alone: %v %v %v", sets, wanted, err)
	}
	c.Uplinks[0].Weight, c.Uplinks[1].Weight = 255, 1
	must(t, k.Apply(t.Context(), build(t, c, in)))
	const to = "198.51.100.1:80"
	client.seen(to, 3)
	client.seen("198.51.100.2:80", 1)
	sets, wanted, err := k.Wanted()
	must(t, err)
	got := map[string]bool{}
	for _, w := range wanted {
		got[w.Policy+" "+w.To.String()] = true
	}
	if d := cmp.Diff(map[string]bool{"default " + to: true, "default 198.51.100.2:80": true}, got); d != "" {
		t.Errorf("wanted (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]balancer.RaceSet{{Policy: "default", Set: "wanted_default", Uplinks: []string{"cable", "dsl"}, Lasts: time.Minute}}, sets); d != "" {
		t.Errorf("sets (-want +got):\n%s", d)
	}
	won := []balancer.Place{
		{Policy: "default", Uplink: "dsl", Destination: netip.MustParseAddr("198.51.100.1"), Left: time.Minute},
		{Policy: "default", Uplink: "cable", Destination: netip.MustParseAddr("198.51.100.2"), Left: time.Hour},
		{Policy: "gone", Uplink: "cable", Destination: netip.MustParseAddr("198.51.100.3"), Left: time.Minute},
		{Policy: "default", Uplink: "dsl", Source: netip.MustParseAddr("192.168.77.10"), Left: time.Minute},
	}
	must(t, k.Won(won))
	must(t, k.Won(won))
	if d := cmp.Diff(map[string]int{dslAddr: 20}, client.seen(to, 20)); d != "" {
		t.Errorf("the winner is dsl (-want +got):\n%s", d)
	}
	places, err := k.Learned()
	must(t, err)
	for _, p := range places {
		if p.Left <= 0 || p.Left > time.Minute || p.Source.IsValid() {
			t.Errorf("learned: %+v", p)
		}
	}
	if len(places) != 2 {
		t.Errorf("learned: %+v", places)
	}
	// Another node, which is told.
	must(t, k.Cleanup(t.Context()))
	must(t, k.Apply(t.Context(), build(t, c, in)))
	must(t, k.Learn(places))
	if d := cmp.Diff(map[string]int{dslAddr: 10}, client.seen(to, 10)); d != "" {
		t.Errorf("after a takeover (-want +got):\n%s", d)
	}
	in.Usable["dsl"] = false
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if d := cmp.Diff(map[string]int{cableAddr: 10}, client.seen(to, 10)); d != "" {
		t.Errorf("without dsl (-want +got):\n%s", d)
	}
	in.Usable["dsl"] = true
	must(t, k.Apply(t.Context(), build(t, c, in)))
	client.seen(to, 1)
	if places, err = k.Learned(); err != nil || len(places) != 1 || places[0].Uplink != "cable" {
		t.Errorf("dsl is back, and the table knows %+v, %v", places, err)
	}
	if _, wanted, err = k.Wanted(); err != nil || len(wanted) != 1 || wanted[0].To.String() != to {
		t.Errorf("dsl is back: wanted %v, %v", wanted, err)
	}
	must(t, k.Activate(t.Context(), false, false))
	if sets, wanted, err = k.Wanted(); err != nil || len(sets)+len(wanted) > 0 {
		t.Errorf("on a backup: %v %v %v", sets, wanted, err)
	}
	if k.Repairs() != (Repairs{}) {
		t.Errorf("repairs %+v", k.Repairs())
	}
}

// TestManyRaces: a set that is full, and one that somebody took away, are no error;
// the elements that come and go are no reason to look at the table.
func TestManyRaces(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	k := quietKernel(t)
	c, in := twoUplinks()
	c.Policies = []balancer.Policy{{Name: "default", Method: balancer.FastestResponse, Learned: time.Hour}}
	must(t, k.Apply(t.Context(), build(t, c, in)))
	must(t, k.Activate(t.Context(), true, false))
	far := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}) }
	var places []balancer.Place
	for i := range balancer.RaceRoom + 1000 {
		places = append(places, balancer.Place{Policy: "default", Uplink: "cable", Destination: far(i), Left: time.Hour})
	}
	for part := range slices.Chunk(places, 1<<10) {
		must(t, k.Won(append(part, balancer.Place{Policy: "default", Uplink: "dsl", Destination: part[0].Destination, Left: time.Hour})))
	}
	known, err := k.Learned()
	must(t, err)
	if n := len(known); n != balancer.RaceRoom+17 {
		t.Errorf("%d are known", n)
	}
	var nft strings.Builder
	for i := range balancer.WantRoom {
		fmt.Fprintf(&nft, "add element inet harouter wanted_default { %v . 443 }\n", far(i))
	}
	file := filepath.Join(t.TempDir(), "elements")
	must(t, os.WriteFile(file, []byte(nft.String()), 0o600))
	netlab.Sh(t, "nft -f "+file)
	began := time.Now()
	_, wanted, err := k.Wanted()
	must(t, err)
	t.Logf("%d are read in %v", len(wanted), time.Since(began))
	if len(wanted) != balancer.WantRoom {
		t.Errorf("%d are wanted", len(wanted))
	}
	netlab.Sh(t, "nft 'flush chain inet harouter policy_default; delete set inet harouter wanted_default; delete set inet harouter learned_default/cable'")
	must(t, k.Won(places[:1]))
	if _, wanted, err = k.Wanted(); err != nil || len(wanted) > 0 {
		t.Errorf("without the set: %v %v", wanted, err)
	}
	if _, err := k.Learned(); err != nil {
		t.Error(err)
	}
	must(t, k.Learn(places[:1]))
}

// TestLearnIntoAFullSet: what another node has learned finds no room in one set, and
// is gone from the other; all the rest is learned.
func TestLearnIntoAFullSet(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	k := quietKernel(t)
	c, in := twoUplinks()
	c.Policies = []balancer.Policy{{Name: "default", Method: balancer.FastestResponse, Learned: time.Hour}}
	must(t, k.Apply(t.Context(), build(t, c, in)))
	place := func(uplink string, last byte) balancer.Place {
		return balancer.Place{Policy: "default", Uplink: uplink, Destination: netip.AddrFrom4([4]byte{20, 0, 0, last}), Left: time.Hour}
	}
	netlab.Sh(t, `nft 'flush chain inet harouter policy_default; delete set inet harouter learned_default/cable
		add set inet harouter learned_default/cable { type ipv4_addr; size 8; flags dynamic,timeout; timeout 1h; }'`)
	var places []balancer.Place
	for i := range byte(20) {
		places = append(places, place("cable", i), place("dsl", 100+i))
	}
	must(t, k.Learn(places[:4]))
	count := func() map[string]int {
		t.Helper()
		known, err := k.Learned()
		must(t, err)
		n := map[string]int{}
		for _, p := range known {
			n[p.Uplink]++
		}
		return n
	}
	if d := cmp.Diff(map[string]int{"cable": 2, "dsl": 2}, count()); d != "" {
		t.Fatalf("at first (-want +got):\n%s", d)
	}
	places = append(places, place("dsl", 0)) // which moves, and makes room
	places = slices.DeleteFunc(places, func(p balancer.Place) bool { return p == place("cable", 0) })
	must(t, k.Learn(places))
	if d := cmp.Diff(map[string]int{"cable": 8, "dsl": 21}, count()); d != "" {
		t.Errorf("a full set (-want +got):\n%s", d)
	}
	netlab.Sh(t, "nft 'delete set inet harouter learned_default/cable'")
	must(t, k.Learn([]balancer.Place{place("cable", 200), place("dsl", 201)}))
	if d := cmp.Diff(map[string]int{"dsl": 22}, count()); d != "" {
		t.Errorf("a set that is gone (-want +got):\n%s", d)
	}
	// Elements that are gone by the time they are to go.
	set := learnedElements(k.plan.Learned[1])
	var gone []nftables.SetElement
	for _, last := range []byte{100, 250, 101, 251, 102} {
		gone = append(gone, nftables.SetElement{Key: []byte{20, 0, 0, last}})
	}
	must(t, k.some(set, gone, (*nftables.Conn).SetDeleteElements))
	if d := cmp.Diff(map[string]int{"dsl": 19}, count()); d != "" {
		t.Errorf("elements that are gone (-want +got):\n%s", d)
	}
}

// TestLearnedElementsAreNoNews: nobody looks at the table because of them.
func TestLearnedElementsAreNoNews(t *testing.T) {
	c, in := twoUplinks()
	c.Policies = []balancer.Policy{{Name: "default", Method: balancer.FastestResponse, Learned: time.Hour}}
	s := newScope(build(t, c, in), nil)
	for set, want := range map[string]kindSet{"learned_default/cable": 0, "wanted_default": 0, "slots_default": setOf(kindTable), balancer.SetActive: setOf(kindTable)} {
		ae := netlink.NewAttributeEncoder()
		ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, balancer.TableName)
		ae.String(unix.NFTA_SET_ELEM_LIST_SET, set)
		attrs, err := ae.Encode()
		must(t, err)
		for _, typ := range []int{unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM} {
			b, err := netlink.Message{
				Header: netlink.Header{Length: uint32(20 + len(attrs)), Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | typ)},
				Data:   append([]byte{unix.NFPROTO_INET, 0, 0, 0}, attrs...),
			}.MarshalBinary()
			must(t, err)
			if got := readNft(b, s).kinds; got != want {
				t.Errorf("%s: %v, want %v", set, got, want)
			}
		}
	}
}
