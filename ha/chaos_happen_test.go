package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// happen does one line of a script. What cannot be done at the moment, such as a
// crash of a node that does not run, is nothing.
func (st *story) happen(line string) error {
	st.note(line)
	f := strings.Fields(line)
	if len(f) == 0 {
		return fmt.Errorf("nothing happens")
	}
	what, args := f[0], f[1:]
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	node := func(i int) (*simNode, error) {
		if n := st.s.nodes[arg(i)]; n != nil {
			return n, nil
		}
		return nil, fmt.Errorf("%q is no node", arg(i))
	}
	switch what {
	case "heal":
		st.heal()
		st.settled()
		return nil
	case "mend":
		for _, n := range st.s.all() {
			clear(n.lost)
			clear(n.strain.deaf)
		}
		return nil
	case "master": // master r1: nothing happens, but it has to be
		for _, n := range st.s.all() {
			if want := n.name == arg(0); n.running && (n.m.Role() == RoleMaster) != want {
				st.c.fail("%s is %v, %s should be master", n.name, n.m.Role(), arg(0))
			}
		}
		return nil
	case "isp": // isp cable off
		st.s.kill(arg(0), arg(1) == "off")
		return nil
	case "cut": // cut r1>r2 both, or gossip, or adverts
		from, to, _ := strings.Cut(arg(0), ">")
		a, b := st.s.nodes[from], st.s.nodes[to]
		if a == nil || b == nil || a == b {
			return fmt.Errorf("%q are no two nodes", arg(0))
		}
		b.lost[from] = b.lost[from] || arg(1) != "adverts"
		b.strain.deaf[from] = b.strain.deaf[from] || arg(1) != "gossip"
		return nil
	case "write": // write all TEXT, or write r1 TEXT
		text := strings.Join(args[min(1, len(args)):], " ")
		for _, n := range st.s.all() {
			if n.accepted != "" && (n.name == arg(0) || arg(0) == "all") {
				n.disk = text
				n.seen()
			}
		}
		return nil
	}
	n, err := node(0)
	if err != nil {
		return err
	}
	member := slices.Contains(st.members(), n.name)
	switch what {
	case "boot":
		if !n.running && member {
			st.boot(n)
		}
	case "crash":
		if n.running {
			st.c.crash(n)
		}
	case "power":
		if n.running {
			st.s.power(n.name)
		}
	case "freeze": // freeze r1 400ms machine, or process
		d, err := time.ParseDuration(arg(1))
		if err != nil {
			return err
		}
		st.c.freeze(n, d, arg(2) == "machine")
	case "reload": // reload r1, or with a trial: reload r1 5s
		var a Args
		if arg(1) != "" {
			if a.Trial, err = time.ParseDuration(arg(1)); err != nil {
				return err
			}
		}
		st.command(n, VerbReload, a)
	case "add": // add r1 r3: asked on r1
		o, err := node(1)
		if err != nil {
			return err
		}
		st.addNode(n, o)
	case "forget":
		// Whoever is off meanwhile may come back and know nobody who is left.
		if off := slices.ContainsFunc(st.members(), func(name string) bool { return !st.s.nodes[name].running }); !off && member && len(st.members()) > 1 {
			st.command(n, VerbForget, Args{})
		}
	case "carrier": // carrier r1 lan0 off
		if _, ok := n.links[arg(1)]; ok && n.running {
			n.carrier(arg(1), arg(2) == "on")
		}
	case "check": // check r1 fails, or passes
		n.ails = map[bool]string{true: "exit code 1"}[arg(1) == "fails"]
	case "line": // line r1 cable off: only there
		n.blind[arg(1)] = arg(2) == "off"
	case "failover": // failover r1, or failover r1 r2
		st.command(n, VerbFailover, Args{To: arg(1)})
	case "auto":
		st.command(n, VerbAuto, Args{})
	case "stop":
		st.command(n, VerbStop, Args{})
	case "rest":
		st.command(n, VerbRest, Args{})
	case "serve":
		st.command(n, VerbServe, Args{})
	case "forge": // forge r1 r2 254 10: at r1, as r2, priority, adverts
		return st.forge(n, arg(1), arg(2), arg(3))
	default:
		return fmt.Errorf("%q is no happening", what)
	}
	return nil
}

// addNode has a node added to the file of another, and joins it.
func (st *story) addNode(n, o *simNode) {
	if !n.running || !n.strain.frozen.IsZero() || o.running || slices.Contains(st.members(), o.name) {
		return
	}
	id := st.command(n, VerbAddNode, Args{Add: &Joiner{Name: o.name}})
	st.pass(100 * time.Millisecond)
	if text, ok := n.answers[id]; !ok || text != "" || !n.running {
		return
	}
	o.disk, o.accepted, o.gen, o.rests, o.refused = string(n.m.cfg.Text), string(n.m.cfg.Text), n.m.cfg.Generation, false, ""
	if _, err := simFile(o.name, o.accepted); err != nil {
		st.c.fail("%s was added and is not in the file of %s", o.name, n.name)
		return
	}
	st.c.boot(o.name)
}

// boot starts a node; one that was added and did not get the file joins anew.
func (st *story) boot(n *simNode) {
	if n.accepted == "" {
		best := st.newest()
		n.disk, n.accepted, n.gen = best.accepted, best.accepted, best.gen
	}
	st.c.boot(n.name)
}

// forge sends adverts on the lan to one node as if they were another's.
func (st *story) forge(at *simNode, as, priority, count string) error {
	o := st.s.nodes[as]
	var p uint8
	var n int
	if _, err := fmt.Sscan(priority+" "+count, &p, &n); err != nil || o == nil || o == at {
		return fmt.Errorf("forge as %q: %w", as, err)
	}
	if !o.running {
		return nil
	}
	source := o.links["lan0"].Addresses[0].Addr()
	for i := range n {
		st.s.after(time.Duration(i)*20*time.Millisecond, func() {
			at.handle(Advert{Link: "office", Source: source, Advert: adv(p)})
		})
	}
	return nil
}
