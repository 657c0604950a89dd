package ha

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"harouter/test/shrink"
)

var keepScripts = flag.Bool("keep", false, "write what fails, shortened, to testdata/chaos")

// TestChaos lets clusters suffer all that a seed brings, over bad wires, with
// slow edges and clocks that drift, and looks at what may never be: see chaos,
// and settled for the end. What fails is shortened to a script and printed, and
// with -keep written where TestChaosScripts replays it. With HAROUTER_SOAK=5m
// other seeds, for so long; HAROUTER_CHAOS=FROM-TO those.
func TestChaos(t *testing.T) { chaosSeeds(t, "", 80) }

// TestChaosSync is the same where flows are replicated.
func TestChaosSync(t *testing.T) { chaosSeeds(t, "sync=5s", 32) }

// TestChaosOneHolder: the same where addresses have MACs of their own.
func TestChaosOneHolder(t *testing.T) { chaosSeeds(t, "one sync=5s", 16) }

func chaosSeeds(t *testing.T, words string, to uint64) {
	t.Parallel()
	shrink.Seeds(t, "HAROUTER_CHAOS", to, 3, func(seed uint64) func() {
		st := invent(t, seed, words)
		if len(st.c.problems) == 0 {
			return nil
		}
		return func() { st.failed(t, seed) }
	})
}

// failed shortens what went wrong and shows it.
func (st *story) failed(t *testing.T, seed uint64) {
	kind := st.c.problems[0][strings.IndexByte(st.c.problems[0], ' '):]
	kind = strings.Map(func(r rune) rune { // whoever it is and however long
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, kind[:min(len(kind), 25)])
	lines := slices.Clone(st.lines)
	until := time.Now().Add(2 * time.Minute)
	short := shrink.Lines(lines, func(l []string) bool {
		if time.Now().After(until) {
			return false
		}
		again, err := replay(t, l)
		return err == nil && len(again.c.problems) > 0 && strings.HasPrefix(strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, again.c.problems[0][strings.IndexByte(again.c.problems[0], ' '):]), kind)
	})
	if again, err := replay(t, short); err == nil && len(again.c.problems) > 0 {
		st = again
	}
	t.Errorf("seed %d: %s\n%s\n\n%s", seed, strings.Join(st.c.problems, "\n"), strings.Join(short, "\n"), strings.Join(st.s.log, "\n"))
	if *keepScripts {
		text := fmt.Sprintf("# Seed %d: %s\n%s\n", seed, st.c.problems[0], strings.Join(short, "\n"))
		if err := os.WriteFile(filepath.Join("testdata/chaos", strconv.FormatUint(seed, 10)+".txt"), []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// TestChaosScripts replays what failed once.
func TestChaosScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/chaos/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts: %v %v", files, err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			st, err := replay(t, strings.Split(string(text), "\n"))
			if err != nil {
				t.Fatal(err)
			}
			if p := st.c.problems; len(p) > 0 {
				t.Errorf("%s\n\n%s", strings.Join(p, "\n"), strings.Join(st.s.log, "\n"))
			}
		})
	}
}

// story is what happens to one cluster. Its script has two lines of settings and
// one for each happening, with the time since the start:
//
//	chaos 27 lossy slow failing      seed of the dice, and what they may do
//	cluster r1,r2 sync=5s            nodes of the first file, and words of each
//	drift r1 -4000                   of a clock, in millionths
//	1.5s crash r1                    see happen
//	20s heal                         all of it, and what a person would do
type story struct {
	t     testing.TB
	s     *sim
	c     *chaos
	lines []string
	asked []asked
	words string // of each file
}

// asked is a command that waits for its answer.
type asked struct {
	n     *simNode
	life  int
	id    uint64
	verb  Verb
	until time.Time
}

// allNodes are those that can be in a file.
var allNodes = []string{"r1", "r2", "r3", "r4", "r5"}

// begin makes the cluster of the first two lines.
func begin(t testing.TB, chaosLine, clusterLine string) (*story, error) {
	f, g := strings.Fields(chaosLine), strings.Fields(clusterLine)
	if len(f) < 2 || f[0] != "chaos" || len(g) < 2 || g[0] != "cluster" {
		return nil, fmt.Errorf("a script begins with chaos and cluster, not %q, %q", chaosLine, clusterLine)
	}
	seed, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return nil, err
	}
	m, err := readMenu(f[2:])
	if err != nil {
		return nil, err
	}
	st := &story{t: t, words: strings.Join(g[2:], " "), lines: []string{chaosLine, clusterLine}}
	names := strings.Split(g[1], ",")
	for _, name := range names {
		if !slices.Contains(allNodes, name) {
			return nil, fmt.Errorf("no node can be called %q", name)
		}
	}
	st.s = newSim(t, allNodes...)
	st.s.feels = strings.Contains(st.words, "feel")
	for _, n := range st.s.all() {
		n.disk = strings.TrimSpace(st.words + " cable=2 nodes=" + strings.Join(names, ","))
		cfg, err := simFile(n.name, n.disk)
		if err != nil && slices.Contains(names, n.name) {
			return nil, err
		}
		n.cfg = cfg
	}
	m.sync = strings.Contains(st.words, "sync=")
	st.c = newChaos(st.s, seed, m)
	st.c.boot(names...)
	return st, nil
}

// replay plays a script. The error says that it is none.
func replay(t testing.TB, lines []string) (*story, error) {
	lines = slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.TrimSpace(l) == "" || l[0] == '#' })
	if len(lines) < 2 {
		return nil, fmt.Errorf("a script of %d lines", len(lines))
	}
	st, err := begin(t, lines[0], lines[1])
	if err != nil {
		return nil, err
	}
	for _, line := range lines[2:] {
		word, rest, _ := strings.Cut(line, " ")
		if word == "drift" {
			if err := st.drift(line); err != nil {
				return nil, err
			}
			continue
		}
		at, err := time.ParseDuration(word)
		if err != nil {
			return nil, err
		}
		st.pass(st.s.start.Add(at).Sub(st.s.now))
		if err := st.happen(rest); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	return st, nil
}

func (st *story) drift(line string) error {
	f := strings.Fields(line)
	if len(f) != 3 || st.s.nodes[f[1]] == nil {
		return fmt.Errorf("%s: want drift NODE PPM", line)
	}
	n, err := strconv.Atoi(f[2])
	st.s.nodes[f[1]].drift = n
	st.lines = append(st.lines, line)
	return err
}

// note keeps a line of the script.
func (st *story) note(line string) {
	line = fmt.Sprintf("%v %s", st.s.now.Sub(st.s.start), line)
	st.lines = append(st.lines, line)
	st.s.log = append(st.s.log, "         --- "+line)
}

func (st *story) command(n *simNode, verb Verb, args Args) uint64 {
	if !n.running || !n.strain.frozen.IsZero() {
		return 0
	}
	st.s.seq++
	id := uint64(st.s.seq)
	limit := 10 * time.Second
	if verb == VerbReload || verb == VerbAddNode {
		limit = 12 * time.Second
	}
	st.asked = append(st.asked, asked{n: n, life: n.life, id: id, verb: verb, until: st.s.now.Add(limit)})
	n.handle(Command{ID: id, Verb: verb, Args: args})
	return id
}

func (st *story) pass(d time.Duration) {
	st.c.run(d)
	st.asked = slices.DeleteFunc(st.asked, func(a asked) bool {
		_, ok := a.n.answers[a.id]
		if ok || a.n.life != a.life || !a.n.running || !a.n.strain.frozen.IsZero() {
			return true
		}
		if st.s.now.After(a.until) {
			st.c.fail("%s did not answer verb %d in time", a.n.name, a.verb)
			return true
		}
		return false
	})
}

// newest is the node with the file of the highest generation.
func (st *story) newest() *simNode {
	var best *simNode
	for _, n := range st.s.all() {
		if n.accepted != "" && (best == nil || n.gen > best.gen) {
			best = n
		}
	}
	return best
}

// members are the nodes of the file with the highest generation.
func (st *story) members() []string {
	best := st.newest()
	cfg, _ := simFile(best.name, best.accepted)
	var out []string
	for _, n := range cfg.Nodes {
		out = append(out, n.Name)
	}
	return out
}

// withNodes completes a file with the nodes that the file of n names.
func withNodes(text string, n *simNode) string {
	cfg, _ := simFile(n.name, n.accepted)
	var names []string
	for _, o := range cfg.Nodes {
		names = append(names, o.Name)
	}
	return text + " nodes=" + strings.Join(names, ",")
}

// heal ends all trouble. Where files differ a person copies one to all and
// reloads.
func (st *story) heal() {
	s := st.s
	st.c.calm = true
	for _, n := range s.all() {
		clear(n.lost)
		clear(n.strain.deaf)
	}
	clear(s.dead)
	for _, n := range s.all() {
		clear(n.blind)
		n.ails = ""
		for device := range n.links {
			if n.running {
				n.carrier(device, true)
			}
		}
	}
	st.pass(4 * time.Second)
	members := st.members()
	for _, n := range s.all() {
		switch in := slices.Contains(members, n.name); {
		case in && !n.running:
			st.boot(n)
		case !in && n.running:
			s.power(n.name)
		}
	}
	st.pass(6 * time.Second)
	members = st.members()
	for _, name := range members { // the end of a trial has brought it back
		if n := s.nodes[name]; !n.running {
			st.boot(n)
		}
	}
	for _, name := range members {
		st.command(s.nodes[name], VerbServe, Args{})
		st.command(s.nodes[name], VerbAuto, Args{})
	}
	if st.c.menu.failing {
		st.pass(23 * time.Second) // a node whose disk was full tries again after 30 s
	}
	st.pass(8 * time.Second)
	differ := map[string]bool{}
	generations := map[uint64]bool{}
	for _, name := range members {
		n := s.nodes[name]
		if !n.running {
			st.c.fail("%s does not run: %+v", name, n.exit)
			return
		}
		differ["hash of "+n.disk], differ[n.m.cfg.Hash] = true, true
		generations[n.m.cfg.Generation] = true
	}
	if len(generations) > 1 {
		st.c.fail("generations differ: %v", slices.Collect(maps.Keys(generations)))
	}
	for _, name := range members {
		alarm := false
		for _, a := range s.nodes[name].m.Status(s.nodes[name].clock()).Alarms {
			alarm = alarm || a.Code == AlarmConfigDiffers
		}
		if alarm != (len(differ) > 1) {
			st.c.fail("%s: alarm of files that differ %v, files %v", name, alarm, slices.Sorted(maps.Keys(differ)))
		}
	}
	if len(differ) == 1 && st.c.seed%3 > 0 {
		return
	}
	text := withNodes(strings.TrimSpace(st.words+" cable=3"), s.nodes[members[0]])
	for _, n := range s.all() {
		n.disk = text
		n.seen()
	}
	n := s.nodes[members[len(members)-1]]
	for _, name := range members { // whoever was taken out of a file says that he cannot
		if n.m.expelled() {
			n = s.nodes[name]
		}
	}
	id := st.command(n, VerbReload, Args{})
	st.pass(6 * time.Second)
	if answer, ok := n.answers[id]; !ok || answer != "" {
		st.c.fail("the last reload: answered %v %q", ok, answer)
	}
	st.pass(4 * time.Second)
}

// best is the node that has to be master once all is well.
func (st *story) best(members []string) *simNode {
	var best *simNode
	for _, name := range members {
		n := st.s.nodes[name]
		switch {
		case best == nil:
			best = n
		case !n.m.cfg.Preempt || priorities[name] == priorities[best.name]:
			if n.m.Role() == RoleMaster { // whoever is
				best = n
			}
		case priorities[name] > priorities[best.name]:
			best = n
		}
	}
	return best
}

// settled is how a cluster has to be some time after all was healed.
func (st *story) settled() {
	s, c := st.s, st.c
	for _, name := range st.members() {
		if !s.nodes[name].running {
			c.fail("%s does not run after all was healed", name)
			return
		}
	}
	turns := func() (n int) {
		for _, name := range st.members() {
			n += s.nodes[name].m.transitions
		}
		return n
	}
	before := turns()
	st.pass(2 * time.Second)
	if n := turns() - before; n > 0 {
		c.fail("%d changes of roles after all was well", n)
	}
	if !c.several.IsZero() {
		c.fail("two hold the addresses since %v", c.several.Sub(s.start))
	}
	members := st.members()
	best := st.best(members)
	for _, name := range members {
		n := s.nodes[name]
		if !n.running {
			continue // told before
		}
		m := n.m
		if want := n == best; (m.Role() == RoleMaster) != want || n.holds != want || n.active != want {
			c.fail("%s is %v, holds %v, active %v", name, m.Role(), n.holds, n.active)
		}
		if m.cfg.Hash != best.m.cfg.Hash || m.cfg.Generation != best.m.cfg.Generation || m.planHash != best.m.planHash {
			c.fail("%s and %s differ: generation %d %d, file %s %s, plan %.8s %.8s, pool %v %v", name, best.name, m.cfg.Generation, best.m.cfg.Generation,
				m.cfg.Text, best.m.cfg.Text, m.planHash, best.m.planHash, m.pool, best.m.pool)
		}
		if n.accepted != string(m.cfg.Text) || n.gen != m.cfg.Generation {
			c.fail("%s keeps %q %d, runs %q %d", name, n.accepted, n.gen, m.cfg.Text, m.cfg.Generation)
		}
		if n.flows.owned != m.owned || (m.owned != 0) != (n == best && c.menu.sync) || m.last > best.m.owned && c.menu.sync {
			c.fail("%s owns the flows in term %d, before %d (kernel: %d), %s in %d", name, m.owned, m.last, n.flows.owned, best.name, best.m.owned)
		}
		for _, a := range m.Status(n.clock()).Alarms {
			c.fail("%s has the alarm %s %s: %s", name, a.Code, a.Subject, a.Text)
		}
		if m.offer != nil || m.pledge != nil || m.trial != nil || m.fetch != nil || m.adopting != nil || m.handoff != nil || m.taking != nil || m.resting != nil || m.move != nil ||
			m.adding != 0 || m.removing != 0 || m.held || m.maintenance || m.fenced || m.found || !m.Awake() || m.Sure() != (n == best) || !m.deactivate.IsZero() {
			c.fail("%s has something left: offer %+v pledge %+v trial %+v fetch %+v adopting %+v handoff %+v taking %+v move %+v adding %d removing %d held %v maintenance %v fenced %v found %v awake %v sure %v",
				name, m.offer, m.pledge, m.trial, m.fetch, m.adopting, m.handoff, m.taking, m.move, m.adding, m.removing, m.held, m.maintenance, m.fenced, m.found, m.Awake(), m.Sure())
		}
		uplinks := len(m.cfg.Balancer.Uplinks)
		for what, size := range map[string][2]int{
			"forwarded": {len(m.forwarded), 0}, "dying": {len(m.dying), 0}, "sweeps": {len(m.sweeps), 0}, "strangers": {len(m.strangers), 0},
			"health": {len(m.health), uplinks}, "verdicts": {len(m.verdicts), uplinks}, "pool": {len(m.pool), uplinks},
			"changed": {len(m.changed), uplinks}, "moved": {len(m.moved), uplinks}, "sources": {len(m.sources), uplinks},
			"peers": {len(m.peers), len(members) - 1}, "speakers": {len(m.speakers), 5 * len(members)}, "answers": {len(st.asked), 0},
		} {
			if size[0] > size[1] {
				c.fail("%s: %d %s, at most %d", name, size[0], what, size[1])
			}
		}
	}
}
