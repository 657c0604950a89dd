package control

import (
	"fmt"
	"io"
	"strings"
	"time"

	"harouter/balancer"
	"harouter/ha"
)

// Table writes the status for people, on 80 columns: alarms first, if there
// are any, then the cluster in one line, its nodes, uplinks and addresses. The
// words tell everything; color only underlines. now is that of the reader.
func Table(w io.Writer, s ha.Status, color bool, now time.Time) error {
	v := view{s: s, color: color, now: now}
	blocks := [][]string{v.alarms(), v.cluster(), v.nodes(), v.uplinks(), v.policies(), v.addresses()}
	var out []string
	for _, b := range blocks {
		if len(b) > 0 {
			out = append(out, strings.Join(b, "\n")+"\n")
		}
	}
	if _, err := io.WriteString(w, strings.Join(out, "\n")); err != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	return nil
}

// view is one status on its way to the screen.
type view struct {
	s     ha.Status
	color bool
	now   time.Time
}

func (v *view) alarms() []string {
	var lines []string
	for _, a := range v.s.Alarms {
		what := strings.TrimSpace(clean(a.Code) + " " + clean(a.Subject))
		head := fmt.Sprintf("ALARM  %s for %s", what, sinceWords(&a.Since, v.now))
		lines = append(lines, (red+";"+bold).wrap(head, v.color))
		for _, l := range wrap(strings.Fields(clean(a.Text)), " ", width-7) {
			lines = append(lines, "       "+l)
		}
	}
	return lines
}

func (v *view) cluster() []string {
	words := []string{clean(v.s.Cluster), v.master(), v.configuration(), plural(len(v.s.Alarms), "alarm")}
	lines := wrap(words, "   ", width)
	for _, n := range v.s.Nodes {
		if n.Held && n.Role == ha.RoleMaster {
			lines = append(lines, wrap(strings.Fields(clean(n.Name)+" holds the role by failover, until it fails or harouter failover --auto"), " ", width)...)
		}
	}
	return lines
}

// configuration says whether the nodes run one file, and which if it is not the
// first.
func (v *view) configuration() string {
	c := v.s.Config
	text := "configuration in sync"
	switch {
	case !c.InSync:
		return "configuration differs"
	case c.Trial:
		text = "configuration on trial"
	}
	if c.Generation > 1 {
		text += fmt.Sprintf(" (generation %d)", c.Generation)
	}
	return text
}

// master says who is master and since when.
func (v *view) master() string {
	name := v.s.VRRP.Master
	if name == "" {
		return "no master"
	}
	for _, n := range v.s.Nodes {
		if n.Name == name && n.Role == ha.RoleMaster {
			if t := sinceWords(n.Since, v.now); t != "" {
				return clean(name) + " is master for " + t
			}
		}
	}
	return clean(name) + " is master"
}

func (v *view) nodes() []string {
	g := v.nodeGrid(false)
	if !g.fits() {
		g = v.nodeGrid(true)
	}
	return g.lines(v.color)
}

// nodeGrid leaves out what is least needed if it must be brief.
func (v *view) nodeGrid(brief bool) *grid {
	g := &grid{header: []string{"NODE", "ROLE", "PRIORITY", "ADDRESS", "HEARD", "FLOW TABLE"}}
	for _, n := range v.s.Nodes {
		name, here := cell{text: clean(n.Name)}, n.Name == v.s.Node
		if here {
			name.text = cut(name.text, maxFirst-2) + " *"
		}
		g.add(name, roleCell(n), priorityCell(n, brief), cell{text: n.Address.String()}, heardCell(n, here), v.flowCell(n, here, brief))
	}
	return g
}

func roleCell(n ha.NodeStatus) cell {
	c := cell{text: n.Role.String()}
	switch n.Role {
	case ha.RoleMaster:
		c.style = bold
	case ha.RoleFault, ha.RoleUnknown:
		c.style = red
	case ha.RoleBackup:
	}
	return c
}

// priorityCell shows the configured priority and what it is now, in maintenance
// by that word: it is 1 then.
func priorityCell(n ha.NodeStatus, brief bool) cell {
	switch e := n.EffectivePriority; {
	case n.Maintenance && brief:
		return cell{"maintenance", yellow}
	case n.Maintenance:
		return cell{fmt.Sprintf("%d, maintenance", n.Priority), yellow}
	case n.Unfit != "":
		return cell{fmt.Sprintf("%d, check fails", n.Priority), red}
	case e != nil && *e != n.Priority:
		return cell{text: fmt.Sprintf("%d, now %d", n.Priority, *e)}
	}
	return cell{text: fmt.Sprint(n.Priority)}
}

func heardCell(n ha.NodeStatus, here bool) cell {
	switch {
	case here:
		return cell{text: "here"}
	case n.HeardMS == nil:
		return cell{"never", red}
	}
	c := cell{text: span(time.Duration(*n.HeardMS) * time.Millisecond)}
	if !n.Alive {
		c = cell{c.text + " ago", red}
	}
	return c
}

// flowCell shows the size of a node's flow table and, of another node, how
// well it agrees with ours.
func (v *view) flowCell(n ha.NodeStatus, here, brief bool) cell {
	flows := countOrNone(n.Flows)
	if here {
		return cell{text: flows}
	}
	var p ha.SyncPeer
	for _, p = range v.s.ConntrackSync.Peers {
		if p.Name == n.Name {
			break
		}
	}
	if p.Name != n.Name || p.State == "" {
		return cell{text: flows}
	}
	if p.State == ha.SyncOff {
		if flows == none {
			return cell{text: "sync off"}
		}
		return cell{text: flows + ", sync off"}
	}
	if n.Flows == nil {
		flows = countOrNone(p.FlowsThere)
	}
	if flows != none {
		flows += " "
	} else {
		flows = ""
	}
	switch p.State {
	case ha.SyncSynced:
		c := cell{flows + "in sync", green}
		if p.LagMS != nil && !brief {
			c.text += ", " + span(time.Duration(*p.LagMS*float64(time.Millisecond))) + " behind"
		}
		return c
	case ha.SyncStale:
		return cell{flows + "stale", red}
	}
	c := cell{flows + clean(string(p.State)), yellow}
	if p.State == ha.SyncSyncing && p.Progress != nil {
		c.text += " " + percent(*p.Progress)
	}
	return c
}

func (v *view) uplinks() []string {
	if len(v.s.Uplinks) == 0 {
		return nil
	}
	g := &grid{header: []string{"UPLINK", "STATE", "SHARE", "RTT", "LOSS", "FLOWS", "DOWN / UP"}}
	for _, u := range v.s.Uplinks {
		state := cell{strings.TrimSpace(u.State.String() + " " + sinceWords(u.Since, v.now)), verdictStyle(u.State)}
		rtt, loss := none, none
		if u.RTTMS != nil {
			rtt = millis(*u.RTTMS)
		}
		if u.Loss != nil {
			loss = percent(*u.Loss)
		}
		g.add(cell{text: clean(u.Name)}, state, cell{text: fmt.Sprintf("%.0f %%", u.Share*100)}, cell{text: rtt}, cell{text: loss},
			cell{text: countOrNone(u.Flows)}, cell{text: rates(u.RxBPS, u.TxBPS)})
	}
	beside := v.withViews(g)
	if beside.fits() {
		return beside.lines(v.color)
	}
	g.below = map[int][]string{}
	for i, u := range v.s.Uplinks {
		var words []string
		for _, n := range v.s.Nodes {
			words = append(words, cut(clean(n.Name), maxFirst)+" "+u.Views[n.Name].String())
		}
		g.below[i] = wrap(words, "   ", width-2)
	}
	return g.lines(v.color)
}

// policies are shown where there are more than the one whose shares are those of
// the uplinks.
func (v *view) policies() []string {
	if len(v.s.Policies) < 2 {
		return nil
	}
	g := &grid{header: []string{"POLICY", "METHOD", "SHARES"}}
	for _, p := range v.s.Policies {
		var shares []string
		for _, u := range v.s.Uplinks {
			if share := p.Shares[u.Name]; share > 0 {
				shares = append(shares, fmt.Sprintf("%s %.0f %%", clean(u.Name), share*100))
			}
		}
		text := cell{text: strings.Join(shares, ", ")}
		switch p.Does {
		case "bypasses":
			text = cell{"none: the main table leads", dim}
		case "passes":
			text = cell{"none: the next policy", yellow}
		case "drops":
			text = cell{"none: dropped", red}
		}
		g.add(cell{text: clean(p.Name)}, cell{text: clean(p.Method)}, text)
	}
	return g.lines(v.color)
}

// withViews adds a column for each node.
func (v *view) withViews(g *grid) *grid {
	wide := &grid{header: append([]string{}, g.header...)}
	for _, n := range v.s.Nodes {
		wide.header = append(wide.header, cut(clean(n.Name), maxView))
	}
	for i, row := range g.rows {
		row = append([]cell{}, row...)
		for _, n := range v.s.Nodes {
			seen := v.s.Uplinks[i].Views[n.Name]
			row = append(row, cell{seen.String(), verdictStyle(seen)})
		}
		wide.add(row...)
	}
	return wide
}

// maxView is the width up to which a node's name may widen its column of views.
const maxView = 8

func verdictStyle(v balancer.Verdict) style {
	switch v {
	case balancer.Up:
		return green
	case balancer.Degraded:
		return yellow
	case balancer.Down:
		return red
	case balancer.Unknown, balancer.Disabled:
		return dim
	}
	return plain
}

func (v *view) addresses() []string {
	if len(v.s.VirtualAddresses) == 0 {
		return nil
	}
	g := &grid{whole: true, header: []string{"ADDRESS", "DEVICE", "HELD BY"}}
	for _, a := range v.s.VirtualAddresses {
		held := cell{text: cut(clean(a.HeldBy), maxFirst)}
		switch {
		case a.HeldBy == "" && a.Present:
			held.text = "this node"
		case a.HeldBy == "":
			held = cell{"nobody", red}
		case a.HeldBy == v.s.Node && !a.Present:
			held = cell{held.text + ", but it is missing", red}
		case a.HeldBy != v.s.Node && a.Present:
			held = cell{held.text + ", but also on this node", red}
		}
		g.add(cell{text: a.Address.String()}, cell{text: clean(a.Device)}, held)
	}
	return g.lines(v.color)
}
