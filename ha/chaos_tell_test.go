package ha

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// menu are the kinds of trouble that a seed may bring.
type menu struct {
	power, freeze, partition, lossy, slow, failing, files, nodes, ports, uplinks, moves, forged, checks bool
	sync                                                                                                bool // flows are replicated
}

func (m *menu) words() map[string]*bool {
	return map[string]*bool{
		"power": &m.power, "freeze": &m.freeze, "partition": &m.partition, "lossy": &m.lossy, "slow": &m.slow, "failing": &m.failing,
		"files": &m.files, "nodes": &m.nodes, "ports": &m.ports, "uplinks": &m.uplinks, "moves": &m.moves, "forged": &m.forged, "checks": &m.checks,
	}
}

func readMenu(words []string) (m menu, err error) {
	for _, w := range words {
		on := m.words()[w]
		if on == nil {
			return m, fmt.Errorf("%q is no trouble", w)
		}
		*on = true
	}
	return m, nil
}

// teller thinks of what happens next.
type teller struct {
	*story
	r      *rand.Rand
	menu   menu
	greets bool
}

func flip(r *rand.Rand, of int) bool { return r.IntN(of) == 0 }

// invent plays the story of a seed.
func invent(t testing.TB, seed uint64, sync string) *story {
	defer func() {
		if r := recover(); r != nil {
			panic(fmt.Sprintf("seed %d: %v", seed, r))
		}
	}()
	r := rand.New(rand.NewPCG(seed, 11))
	first, greets := fmt.Sprintf("chaos %d", seed), seed%3 > 0
	for _, w := range []struct {
		word string
		of   int
	}{
		{"power", 2}, {"freeze", 4}, {"partition", 3}, {"lossy", 3}, {"slow", 4}, {"failing", 4},
		{"files", 2}, {"nodes", 4}, {"ports", 3}, {"uplinks", 2}, {"moves", 2}, {"forged", 5},
	} {
		// Two sides that take out each other's nodes hear of it from greetings alone.
		if flip(r, w.of) && (greets || w.word != "nodes" || !strings.Contains(first, "partition")) {
			first += " " + w.word
		}
	}
	// Dice of its own, so that a seed from before there were checks tells what it did.
	if seed%2 > 0 && flip(rand.New(rand.NewPCG(seed, 12)), 2) {
		first += " checks"
	}
	second := "cluster " + strings.Join(allNodes[:[]int{2, 2, 2, 2, 2, 3, 3, 3, 4, 5}[r.IntN(10)]], ",")
	if greets {
		second += " hello"
	}
	if sync != "" {
		second += " " + sync
	}
	if strings.Contains(first, "checks") {
		second += " check=fit"
	}
	if flip(r, 8) {
		second += " preempt=off"
	}
	if flip(r, 8) {
		second += " advertise=50ms"
	}
	st, err := begin(t, first, second)
	if err != nil {
		t.Fatal(err)
	}
	if flip(r, 2) {
		for _, name := range allNodes {
			if err := st.drift(fmt.Sprintf("drift %s %d", name, r.IntN(20001)-10000)); err != nil {
				t.Fatal(err)
			}
		}
	}
	te := &teller{story: st, r: r, menu: st.c.menu, greets: greets}
	te.tell()
	te.say("heal")
	return st
}

func (te *teller) say(format string, a ...any) {
	if err := te.happen(fmt.Sprintf(format, a...)); err != nil {
		te.t.Fatal(err)
	}
}

func (te *teller) some(names []string) *simNode { return te.s.nodes[names[te.r.IntN(len(names))]] }

func (te *teller) file() string {
	text := strings.TrimSpace(te.words + fmt.Sprintf(" cable=%d", 1+te.r.IntN(9)))
	if flip(te.r, 4) {
		text += " only"
	}
	return text
}

func onOff(on bool) string { return map[bool]string{true: "on", false: "off"}[on] }

// tell lets a dozen things happen.
func (te *teller) tell() {
	m := te.menu
	var kinds []func()
	add := func(on bool, fs ...func()) {
		if on {
			kinds = append(kinds, fs...)
		}
	}
	boot := func() { te.say("boot %s", te.some(te.members()).name) }
	mend := func() { te.say("mend") }
	add(m.power, te.powerOff, boot, boot)
	add(m.freeze, te.freeze)
	add(m.partition, te.partition, mend)
	add(m.files, te.edit, te.reload, te.reload)
	add(m.nodes, te.add, te.forget)
	add(m.ports, te.port)
	add(m.uplinks, te.uplink)
	add(m.moves, te.failover, te.stop, te.rest, boot)
	add(m.forged, te.forged)
	add(m.checks, te.check, te.check)
	add(len(kinds) == 0, te.failover)
	te.pass(time.Duration(te.r.IntN(3000)) * time.Millisecond)
	for range 14 {
		kinds[te.r.IntN(len(kinds))]()
		switch te.r.IntN(4) {
		case 0: // at once
		case 1:
			te.pass(time.Duration(te.r.IntN(20)) * time.Millisecond)
		default:
			te.pass(time.Duration(te.r.IntN(2500)) * time.Millisecond)
		}
	}
}

func (te *teller) powerOff() {
	te.say("%s %s", []string{"crash", "power"}[te.r.IntN(2)], te.some(te.members()).name)
}

func (te *teller) freeze() {
	te.say("freeze %s %v %s", te.some(te.members()).name, time.Duration(50+te.r.IntN(3000))*time.Millisecond, []string{"machine", "process"}[te.r.IntN(2)])
}

func (te *teller) partition() {
	a, b := te.some(te.members()).name, te.some(te.members()).name
	if a == b {
		return
	}
	what := []string{"gossip", "adverts", "both"}[te.r.IntN(3)]
	te.say("cut %s>%s %s", b, a, what)
	if te.r.IntN(7) < 5 { // both directions
		te.say("cut %s>%s %s", a, b, what)
	}
}

func (te *teller) edit() {
	n := te.some(te.members())
	text := withNodes(te.file(), n)
	if flip(te.r, 4) {
		text = "cabel=1"
	}
	te.say("write %s %s", n.name, text)
}

func (te *teller) reload() {
	n := te.some(te.members())
	if !n.running {
		return
	}
	if te.r.IntN(4) > 0 {
		text := withNodes(te.file(), n)
		if o := te.some(te.members()); te.menu.nodes && te.greets && o != n && flip(te.r, 3) { // it has to be off or cut off
			text = strings.NewReplacer(","+o.name, "", o.name+",", "").Replace(text)
		}
		if flip(te.r, 4) && n.m.trial != nil {
			text = n.disk // keep it
		}
		te.say("write all %s", text)
	}
	if flip(te.r, 3) {
		te.say("reload %s %v", n.name, time.Duration(1+te.r.IntN(8))*time.Second)
		return
	}
	te.say("reload %s", n.name)
}

func (te *teller) add() { te.say("add %s %s", te.some(te.members()).name, te.some(allNodes).name) }

func (te *teller) forget() { te.say("forget %s", te.some(te.members()).name) }

func (te *teller) port() {
	te.say("carrier %s %s %s", te.some(te.members()).name, []string{"lan0", "lan1"}[te.r.IntN(2)], onOff(flip(te.r, 2)))
}

func (te *teller) uplink() {
	n, u, on := te.some(te.members()).name, []string{"cable", "dsl"}[te.r.IntN(2)], onOff(flip(te.r, 2))
	switch te.r.IntN(4) {
	case 0:
		te.say("isp %s %s", u, on)
	case 1, 2:
		te.say("line %s %s %s", n, u, on)
	case 3:
		te.say("carrier %s %s %s", n, map[string]string{"cable": "wan1", "dsl": "wan2"}[u], on)
	}
}

func (te *teller) failover() {
	n, o := te.some(te.members()).name, te.some(te.members()).name
	switch te.r.IntN(3) {
	case 0:
		te.say("auto %s", n)
	case 1:
		te.say("failover %s", n)
	case 2:
		te.say("failover %s %s", n, o)
	}
}

func (te *teller) stop() { te.say("stop %s", te.some(te.members()).name) }

func (te *teller) rest() {
	te.say("%s %s", []string{"rest", "serve"}[te.r.IntN(2)], te.some(te.members()).name)
}

func (te *teller) check() {
	te.say("check %s %s", te.some(te.members()).name, []string{"passes", "fails"}[te.r.IntN(2)])
}

func (te *teller) forged() {
	at, as := te.some(te.members()), te.some(te.members())
	if at != as && as.running {
		te.say("forge %s %s %d %d", at.name, as.name, []uint8{0, 254, 120}[te.r.IntN(3)], 1+te.r.IntN(30))
	}
}
