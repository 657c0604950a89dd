package dataplane

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

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

// applyTable makes our table agree in one transaction. The table and its base
// chains are kept: while hooks are exchanged a flow could leave without NAT.
// When a transaction fails, as by the kernel's answers that found no room or by
// somebody who changed the table meanwhile, all is read again.
func (k *Kernel) applyTable(p balancer.Plan) error {
	var err error
	for range 3 {
		table := p.Table
		if k.deaf {
			table = table.WithoutListener()
		}
		var have *present
		if have, err = k.readTable(); err != nil {
			return fmt.Errorf("read the table %s: %w", balancer.TableName, err)
		}
		d := diff{conn: k.nft, active: k.wanted(p.Active)}
		if err = d.queue(table, have); err != nil {
			return errors.Join(err, reopen(&k.nft))
		}
		if d.steps == 0 {
			return nil
		}
		if err = commit(&k.nft); err == nil {
			return nil
		}
		if missing := k.diagnose(err); missing != nil {
			return missing
		}
	}
	return fmt.Errorf("write the table %s: %w", balancer.TableName, err)
}

// diff puts what must change into a transaction.
type diff struct {
	conn   *nftables.Conn
	active bool // the switch, where it must be made
	steps  int  // messages put
}

func (d *diff) queue(t balancer.Table, have *present) error {
	if have != nil && !have.fits(t) { // of another version, or another's: made anew
		d.conn.DelTable(ourTable)
		have = nil
	}
	if have == nil || have.flags != 0 { // flags: somebody made it dormant
		d.conn.AddTable(ourTable)
		d.steps++
	}
	if have == nil {
		have = &present{}
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
		if err := d.rules(c, have.tags[c.Name]); err != nil {
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
			d.steps++
		}
	}
	for name, set := range have.sets {
		if !wantedSets[name] {
			d.conn.DelSet(set)
			d.steps++
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
	d.steps++
}

func (d *diff) set(s balancer.Set, have *present) error {
	typ, order := keyType(s.Key)
	set := &nftables.Set{Table: ourTable, Name: s.Name, KeyType: typ, KeyByteOrder: order, HasTimeout: s.Timeout, IsMap: s.Verdicts}
	if s.Verdicts {
		set.DataType = nftables.TypeVerdict
	}
	if have.sets[s.Name] == nil {
		if err := d.conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("make the set %s: %w", s.Name, err)
		}
		d.steps++
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

func (d *diff) elements(set *nftables.Set, elements []nftables.SetElement, do func(*nftables.Set, []nftables.SetElement) error) error {
	for len(elements) > 0 {
		n := min(elementChunk, len(elements))
		if err := do(set, elements[:n]); err != nil {
			return fmt.Errorf("change the set %s: %w", set.Name, err)
		}
		elements = elements[n:]
		d.steps++
	}
	return nil
}

// rules writes a chain anew if its rules are not the plan's.
func (d *diff) rules(c balancer.Chain, have []string) error {
	same := len(have) == len(c.Rules)
	for i := 0; same && i < len(have); i++ {
		same = have[i] == tag(c.Rules[i])
	}
	if same {
		return nil
	}
	chain := &nftables.Chain{Name: c.Name, Table: ourTable}
	d.conn.FlushChain(chain)
	d.steps += 1 + len(c.Rules)
	for _, r := range c.Rules {
		exprs, err := lowerRule(r)
		if err != nil {
			return fmt.Errorf("chain %s: %w", c.Name, err)
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
