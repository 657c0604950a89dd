package dataplane

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// elementChunk is how many elements go into one message: a list longer than
// 64 KiB would be cut off in silence.
const elementChunk = 500

var ourTable = &nftables.Table{Name: balancer.TableName, Family: nftables.TableFamilyINet}

var hooks = map[string]*nftables.ChainHook{
	"prerouting": nftables.ChainHookPrerouting, "input": nftables.ChainHookInput, "forward": nftables.ChainHookForward,
	"output": nftables.ChainHookOutput, "postrouting": nftables.ChainHookPostrouting,
}

// tag identifies a rule by what it says; it is stored as its comment.
func tag(r balancer.Rule) string {
	sum := sha256.Sum256([]byte(r.String()))
	return "harouter " + hex.EncodeToString(sum[:6])
}

// tableTries is how often a transaction is tried: it fails by the kernel's
// answers that found no room, or by somebody who changed the table meanwhile.
const tableTries = 3

// passTable compares our table, and makes it agree in one transaction, after one
// that makes the chains that packets are to be led to. The table and its base
// chains are kept: while hooks are exchanged a flow could leave without NAT. Only
// the last try makes all anew.
func (k *Kernel) passTable(p *balancer.Plan, write bool) (out difference) {
	table := k.possible(p.Table)
	prepared, made := !write, false
	defer func() {
		if made {
			k.lostUser()
		}
	}()
	for try := 1; try <= tableTries; try++ {
		generation, err := k.generation()
		if err != nil {
			out.err = err
			return out
		}
		have, err := k.readTable()
		if err != nil {
			out.err = fmt.Errorf("read the table %s: %w", balancer.TableName, err)
			return out
		}
		if try == 1 && have != nil && k.user != "" && have.user != k.user {
			out.change = true
			out.damage("the chains %s… of the table %s", balancer.UserPrefix, balancer.TableName)
			made = write
		}
		d := diff{conn: k.nft, active: k.wanted(p.Active), grace: k.graceLeft(), known: k.known, compat: k.queue == queueCompat}
		if !write {
			if d.conn, out.err = nftables.New(); out.err != nil { // it only collects
				return out
			}
		}
		queue, prepares := d.queue, !prepared && have.lacks(table)
		if prepares {
			queue = func(t balancer.Table, have *present, _ bool) error { return d.ahead(t, have) }
		}
		if err := queue(table, have, try == tableTries && out.err != nil); err != nil {
			out.err = errors.Join(err, reopen(&k.nft))
			return out
		}
		out.err = nil
		if d.steps == 0 {
			break
		}
		if !out.change {
			out.change = true
			if k.wrote.table && (have == nil || k.plan == p || k.plan != nil && reflect.DeepEqual(k.plan.Table, p.Table)) {
				out.damage("%s", d.story(have))
			}
		}
		if !write {
			return out
		}
		if out.err = commit(&k.nft); out.err != nil {
			if missing := k.diagnose(out.err); missing != nil {
				out.err = missing
				return out
			}
			table = k.possible(p.Table)
			prepared = true
			continue
		}
		if prepares {
			prepared = true
			try--
			continue
		}
		made = made || d.made
		if !d.ruled || k.learn(table, generation+1, try == tableTries) {
			break
		}
	}
	if out.err != nil {
		out.err = fmt.Errorf("write the table %s: %w", balancer.TableName, out.err)
		return out
	}
	wrong, err := k.settle(p.Active, write)
	if wrong && !out.change && k.plan == p { // (another plan may want it otherwise)
		out.damage("the takeover switch")
	}
	out.change = out.change || wrong
	out.err = err
	if write {
		k.wrote.table = true
	}
	return out
}

// possible is a plan's table as this kernel can have it.
func (k *Kernel) possible(t balancer.Table) balancer.Table {
	if k.deaf {
		t = t.WithoutListener()
	}
	if k.noIPsec {
		t = t.WithoutIPsec()
	}
	if t.Queues() && k.queueing() == queueNone {
		t = t.WithoutQueue()
	}
	return t
}

// unsteady stands for the print of a rule that the kernel tells differently
// each time, which no rule of ours should be: it is known by its comment alone.
const unsteady = ""

// learn reads how the kernel tells the rules that we have just written, to find
// later what somebody else makes of them under the same comment. If somebody
// committed meanwhile nothing is learned, unless it must be.
func (k *Kernel) learn(t balancer.Table, generation uint32, must bool) bool {
	rules, err := k.readRules()
	if err != nil {
		return must
	}
	if now, err := k.generation(); !must && (err != nil || now != generation) {
		return false
	}
	for _, c := range t.Chains {
		have := rules[c.Name]
		for i, r := range c.Rules {
			if tag := tag(r); i < len(have) && have[i].tag == tag {
				if old, known := k.known[tag]; known && old != have[i].print {
					k.known[tag] = unsteady
				} else {
					k.known[tag] = have[i].print
				}
			}
		}
	}
	return true
}

// diff puts what must change into a transaction.
type diff struct {
	conn   *nftables.Conn
	active bool              // the switch, where it must be made
	grace  time.Duration     // what is left of it, where it must be made
	known  map[string]string // prints of our rules, by tag
	compat bool              // packets are queued as iptables does it
	steps  int               // messages put
	ruled  bool              // some of them are rules
	made   bool              // the table is new, without what others put into it
	what   []string          // the chains and sets that differ
}

func (d *diff) step(n int, what string) {
	d.steps += n
	d.what = append(d.what, what)
}

// story is what was found, in a few words.
func (d *diff) story(have *present) string {
	if have == nil {
		return "the table " + balancer.TableName
	}
	slices.Sort(d.what)
	what := slices.Compact(d.what)
	const few = 3
	if len(what) > few {
		return fmt.Sprintf("%s and %d more of the table %s", strings.Join(what[:few], ", "), len(what)-few, balancer.TableName)
	}
	return fmt.Sprintf("%s of the table %s", strings.Join(what, ", "), balancer.TableName)
}

func (d *diff) queue(t balancer.Table, have *present, anew bool) error {
	if have != nil && (anew || !have.fits(t)) { // of another version, or another's
		d.conn.DelTable(ourTable)
		have = nil
	}
	if have == nil || have.flags != 0 { // flags: somebody made it dormant
		d.conn.AddTable(ourTable)
		d.step(1, "its flags")
	}
	if have == nil {
		have, d.made = &present{}, true
	}
	// Chains first, since maps name them; then sets, since rules name them.
	for _, c := range t.Chains {
		d.chain(c, have.chains[c.Name])
	}
	wantedSets, wantedChains := map[string]bool{}, map[string]bool{}
	for _, s := range t.Sets {
		wantedSets[s.Name] = true
		if err := d.set(s, have); err != nil {
			return err
		}
	}
	for _, c := range t.Chains {
		wantedChains[c.Name] = true
		if err := d.rules(c, have.rules[c.Name]); err != nil {
			return err
		}
	}
	// What is too much goes, rules first: they name sets and chains.
	var surplus []*nftables.Chain
	for name, chain := range have.chains {
		if !wantedChains[name] {
			chain.Table = ourTable
			surplus = append(surplus, chain)
			d.conn.FlushChain(chain)
			d.step(1, "a chain "+name)
		}
	}
	for name, set := range have.sets {
		if !wantedSets[name] {
			d.conn.DelSet(set)
			d.step(1, "a set "+name)
		}
	}
	for _, chain := range surplus {
		d.conn.DelChain(chain)
	}
	return nil
}

func (d *diff) chain(c balancer.Chain, have *nftables.Chain) {
	if have != nil && (have.Policy == nil || *have.Policy == nftables.ChainPolicyAccept) {
		return
	}
	chain := &nftables.Chain{Name: c.Name, Table: ourTable}
	if c.Hook != "" {
		chain.Type, chain.Hooknum = nftables.ChainType(c.Type), hooks[c.Hook]
		chain.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(c.Priority))
		accept := nftables.ChainPolicyAccept
		chain.Policy = &accept
	}
	d.conn.AddChain(chain)
	d.step(1, "the chain "+c.Name)
}

func (d *diff) set(s balancer.Set, have *present) error {
	typ, order := keyType(s.Key)
	set := &nftables.Set{Table: ourTable, Name: s.Name, KeyType: typ, KeyByteOrder: order, HasTimeout: s.Timeout, IsMap: s.Verdicts, Interval: s.Interval}
	if s.Lasts > 0 {
		set.Dynamic, set.Timeout, set.Size = true, s.Lasts, uint32(s.Size())
	}
	if s.Lasts == 0 {
		set.Size = uint32(s.Room)
	}
	if s.Verdicts {
		set.DataType = nftables.TypeVerdict
	}
	if have.sets[s.Name] == nil {
		if err := d.conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("make the set %s: %w", s.Name, err)
		}
		d.step(1, "the set "+s.Name)
		if s.Name == balancer.SetGrace && d.grace > 0 {
			on := nftables.SetElement{Key: key(s.Key, balancer.Element{}), Timeout: graceTimeout(d.grace)}
			return d.elements(set, []nftables.SetElement{on}, d.conn.SetAddElements)
		}
	} else if s.Volatile || s.Name == balancer.SetActive { // settle's
		return nil
	}
	wanted := s.Elements
	if s.Name == balancer.SetActive {
		wanted = make([]balancer.Element, 0, 1)
		if d.active {
			wanted = wanted[:1]
		}
	}
	existing := have.elements[s.Name]
	if s.Interval {
		return d.spans(s, set, existing)
	}
	var add, del []nftables.SetElement
	want := map[string]bool{}
	for _, e := range wanted {
		el := nftables.SetElement{Key: key(s.Key, e)}
		text := ""
		if s.Verdicts {
			el.VerdictData, text = verdict(e.Verdict), e.Verdict.String()
		}
		want[string(el.Key)] = true
		old, there := existing[string(el.Key)]
		if there && old == text {
			continue
		}
		if there {
			del = append(del, nftables.SetElement{Key: el.Key})
		}
		add = append(add, el)
	}
	for have := range existing {
		if !want[have] {
			del = append(del, nftables.SetElement{Key: []byte(have)})
		}
	}
	return errors.Join(d.elements(set, del, d.conn.SetDeleteElements), d.elements(set, add, d.conn.SetAddElements))
}

// spans writes an interval map anew if it differs: the kernel holds where spans
// begin and end, and would refuse some orders of piecemeal changes.
func (d *diff) spans(s balancer.Set, set *nftables.Set, existing map[string]string) error {
	var all []nftables.SetElement
	same := true
	put := func(el nftables.SetElement, text string) {
		old, there := existing[elementKey(el)]
		same = same && there && old == text
		all = append(all, el)
	}
	for _, e := range s.Elements {
		first, behind := e.Bytes(s.Key)
		begin := nftables.SetElement{Key: first}
		if s.Verdicts {
			begin.VerdictData = verdict(e.Verdict)
		}
		put(begin, e.Verdict.String())
		if behind != nil {
			put(nftables.SetElement{Key: behind, IntervalEnd: true}, "")
		}
	}
	if same && len(all) == len(existing) {
		return nil
	}
	if len(existing) > 0 {
		d.conn.FlushSet(set)
		d.step(1, "the set "+set.Name)
	}
	return d.elements(set, all, d.conn.SetAddElements)
}

// elementKey tells the elements of a set apart: one span may end where another begins.
func elementKey(e nftables.SetElement) string {
	if e.IntervalEnd {
		return string(e.Key) + " end"
	}
	return string(e.Key)
}

func (d *diff) elements(set *nftables.Set, elements []nftables.SetElement, do func(*nftables.Set, []nftables.SetElement) error) error {
	for len(elements) > 0 {
		n := min(elementChunk, len(elements))
		if err := do(set, elements[:n]); err != nil {
			return fmt.Errorf("change the set %s: %w", set.Name, err)
		}
		elements = elements[n:]
		d.step(1, "the set "+set.Name)
	}
	return nil
}

// rules writes a chain anew if its rules are not the plan's, or not as we know
// the kernel to tell them.
func (d *diff) rules(c balancer.Chain, have []written) error {
	same := len(have) == len(c.Rules)
	for i := 0; same && i < len(have); i++ {
		tag := tag(c.Rules[i])
		print, known := d.known[tag]
		same = have[i].tag == tag && known && (print == unsteady || print == have[i].print)
	}
	if same {
		return nil
	}
	d.ruled = true
	chain := &nftables.Chain{Name: c.Name, Table: ourTable}
	d.conn.FlushChain(chain)
	d.step(1+len(c.Rules), "the chain "+c.Name)
	for _, r := range c.Rules {
		exprs, err := lowerRule(r)
		if err != nil {
			return fmt.Errorf("chain %s: %w", c.Name, err)
		}
		if d.compat {
			compatible(exprs)
		}
		d.conn.AddRule(&nftables.Rule{
			Table: ourTable, Chain: chain, Exprs: exprs,
			UserData: userdata.AppendString(nil, userdata.TypeComment, tag(r)),
		})
	}
	return nil
}

func (k *Kernel) removeTable() error {
	_, err := k.nft.ListTableOfFamily(ourTable.Name, ourTable.Family)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		k.nft.DelTable(ourTable)
		err = commit(&k.nft)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the table %s: %w", balancer.TableName, err)
	}
	return nil
}
