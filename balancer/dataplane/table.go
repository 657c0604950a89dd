package dataplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// graceTime is how long after a takeover TCP in mid-stream is dropped.
const graceTime = 3 * time.Second

// elementChunk is how many elements go into one message: a list longer than
// 64 KiB would be cut off in silence.
const elementChunk = 500

var ourTable = &nftables.Table{Name: balancer.TableName, Family: nftables.TableFamilyINet}

// present is what is in the kernel.
type present struct {
	chains   map[string]*nftables.Chain
	tags     map[string][]string // of the rules, by chain
	sets     map[string]*nftables.Set
	elements map[string]map[string]string // by set, key bytes to verdict
}

// tag identifies a rule by what it says; it is stored as its comment.
func tag(r balancer.Rule) string {
	sum := sha256.Sum256([]byte(r.String()))
	return "harouter " + hex.EncodeToString(sum[:6])
}

// applyTable makes our table agree in one transaction. The table and its base
// chains are kept: while hooks are exchanged a flow could leave without NAT.
func (k *Kernel) applyTable(p balancer.Plan) error {
	var err error
	for range 3 {
		var have *present
		if have, err = readTable(k.nft); err != nil {
			return fmt.Errorf("read the table %s: %w", balancer.TableName, err)
		}
		if have != nil && !have.fits(p.Table) { // of another version: made anew
			k.nft.DelTable(ourTable)
			if err = k.flush(); err != nil {
				continue
			}
			have = nil
		}
		var n int
		if n, err = k.queue(p, have); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		if err = k.flush(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("write the table %s: %w", balancer.TableName, explain(err))
}

// flush commits; after an error nothing is known of what was carried out, and
// the connection is opened anew.
func (k *Kernel) flush() error {
	err := k.nft.Flush()
	if err == nil {
		return nil
	}
	_ = k.nft.CloseLasting()
	fresh, openErr := openNft()
	if openErr == nil {
		k.nft = fresh
	}
	return errors.Join(err, openErr)
}

// explain names the usual cause of an error that says little.
func explain(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w (does the kernel have NF_TABLES_INET, NFT_CT, NFT_NUMGEN, NFT_FIB_INET, NFT_NAT, NFT_REJECT_INET and NFT_SOCKET?)", err)
	}
	return err
}

// readTable returns nil if there is no table of ours.
func readTable(c *nftables.Conn) (*present, error) {
	if _, err := c.ListTableOfFamily(ourTable.Name, ourTable.Family); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		return nil, err
	}
	have := &present{
		chains: map[string]*nftables.Chain{}, tags: map[string][]string{},
		sets: map[string]*nftables.Set{}, elements: map[string]map[string]string{},
	}
	chains, err := c.ListChainsOfTableFamily(ourTable.Family)
	if err != nil {
		return nil, err
	}
	for _, ch := range chains {
		if ch.Table.Name != ourTable.Name {
			continue
		}
		have.chains[ch.Name] = ch
		rules, err := c.GetRules(ourTable, ch)
		if err != nil { // a foreign rule that cannot be read: the chain is written anew
			have.tags[ch.Name] = []string{"unreadable"}
			continue
		}
		for _, r := range rules {
			comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			have.tags[ch.Name] = append(have.tags[ch.Name], comment)
		}
	}
	sets, err := c.GetSets(ourTable)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		if s.Anonymous {
			continue
		}
		s.Table = ourTable
		have.sets[s.Name] = s
		elements, err := c.GetSetElements(s)
		if err != nil {
			return nil, err
		}
		have.elements[s.Name] = map[string]string{}
		for _, e := range elements {
			have.elements[s.Name][string(e.Key)] = readVerdict(e.Val)
		}
	}
	return have, nil
}

// readVerdict decodes a map element's verdict (NFTA_VERDICT_CODE, _CHAIN).
func readVerdict(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	ad, err := mdnetlink.NewAttributeDecoder(b)
	if err != nil {
		return "?"
	}
	chain := ""
	var code uint32
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			if v := ad.Bytes(); len(v) == 4 {
				code = uint32(v[0])<<24 | uint32(v[1])<<16 | uint32(v[2])<<8 | uint32(v[3])
			}
		case unix.NFTA_VERDICT_CHAIN:
			chain = ad.String()
		}
	}
	for name, kind := range verdicts {
		if int32(kind) == int32(code) {
			return (balancer.Jump{Kind: name, Chain: chain}).String()
		}
	}
	return "?"
}

// fits tells whether chains and sets that have a plan's names are of its kinds.
func (h *present) fits(t balancer.Table) bool {
	for _, c := range t.Chains {
		have := h.chains[c.Name]
		if have == nil {
			continue
		}
		if (c.Hook != "") != (have.Hooknum != nil) {
			return false
		}
		if c.Hook != "" && (*have.Hooknum != *hooks[c.Hook] || int(*have.Priority) != c.Priority || string(have.Type) != c.Type) {
			return false
		}
	}
	for _, s := range t.Sets {
		have := h.sets[s.Name]
		typ, _ := keyType(s.Key)
		// (The library does not read the key length of maps.)
		if have != nil && (have.IsMap != s.Verdicts || have.HasTimeout != s.Timeout || !s.Verdicts && have.KeyType.Bytes != typ.Bytes) {
			return false
		}
	}
	return true
}

var hooks = map[string]*nftables.ChainHook{
	"prerouting": nftables.ChainHookPrerouting, "input": nftables.ChainHookInput, "forward": nftables.ChainHookForward,
	"output": nftables.ChainHookOutput, "postrouting": nftables.ChainHookPostrouting,
}

// queue puts the difference into the transaction and counts its parts.
func (k *Kernel) queue(p balancer.Plan, have *present) (int, error) {
	n := 0
	if have == nil {
		have = &present{}
		k.nft.AddTable(ourTable)
		n++
	}
	// Chains first, since maps name them; then sets, since rules name them.
	for _, c := range p.Table.Chains {
		if have.chains[c.Name] != nil {
			continue
		}
		chain := &nftables.Chain{Name: c.Name, Table: ourTable}
		if c.Hook != "" {
			chain.Type, chain.Hooknum = nftables.ChainType(c.Type), hooks[c.Hook]
			chain.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(c.Priority))
			accept := nftables.ChainPolicyAccept
			chain.Policy = &accept
		}
		k.nft.AddChain(chain)
		n++
	}
	wantedSets := map[string]bool{}
	for _, s := range p.Table.Sets {
		wantedSets[s.Name] = true
		m, err := k.queueSet(s, p, have)
		if err != nil {
			return 0, err
		}
		n += m
	}
	wantedChains := map[string]bool{}
	for _, c := range p.Table.Chains {
		wantedChains[c.Name] = true
		m, err := k.queueRules(c, have.tags[c.Name])
		if err != nil {
			return 0, err
		}
		n += m
	}
	for name, chain := range have.chains {
		if !wantedChains[name] {
			chain.Table = ourTable
			k.nft.FlushChain(chain)
			n++
		}
	}
	for name, chain := range have.chains {
		if !wantedChains[name] {
			k.nft.DelChain(chain)
		}
	}
	for name, set := range have.sets {
		if !wantedSets[name] {
			k.nft.DelSet(set)
			n++
		}
	}
	return n, nil
}

func (k *Kernel) queueSet(s balancer.Set, p balancer.Plan, have *present) (int, error) {
	typ, order := keyType(s.Key)
	set := &nftables.Set{Table: ourTable, Name: s.Name, KeyType: typ, KeyByteOrder: order, HasTimeout: s.Timeout, IsMap: s.Verdicts}
	if s.Verdicts {
		set.DataType = nftables.TypeVerdict
	}
	n := 0
	existing, known := have.elements[s.Name]
	if have.sets[s.Name] == nil {
		if err := k.nft.AddSet(set, nil); err != nil {
			return 0, fmt.Errorf("make the set %s: %w", s.Name, err)
		}
		n++
	}
	if s.Volatile && known {
		return n, nil
	}
	wanted := s.Elements
	if s.Name == balancer.SetActive {
		wanted = nil
		if p.Active {
			wanted = []balancer.Element{{}}
		}
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
	for _, step := range []struct {
		elements []nftables.SetElement
		do       func(*nftables.Set, []nftables.SetElement) error
	}{{del, k.nft.SetDeleteElements}, {add, k.nft.SetAddElements}} {
		for len(step.elements) > 0 {
			m := min(elementChunk, len(step.elements))
			if err := step.do(set, step.elements[:m]); err != nil {
				return 0, fmt.Errorf("change the set %s: %w", s.Name, err)
			}
			step.elements = step.elements[m:]
			n++
		}
	}
	return n, nil
}

// queueRules writes a chain anew if its rules are not the plan's.
func (k *Kernel) queueRules(c balancer.Chain, have []string) (int, error) {
	same := len(have) == len(c.Rules)
	for i := 0; same && i < len(have); i++ {
		same = have[i] == tag(c.Rules[i])
	}
	if same {
		return 0, nil
	}
	chain := &nftables.Chain{Name: c.Name, Table: ourTable}
	k.nft.FlushChain(chain)
	for _, r := range c.Rules {
		exprs, err := lowerRule(r)
		if err != nil {
			return 0, fmt.Errorf("chain %s: %w", c.Name, err)
		}
		k.nft.AddRule(&nftables.Rule{Table: ourTable, Chain: chain, Exprs: exprs, UserData: userdata.AppendString(nil, userdata.TypeComment, tag(r))})
	}
	return 1 + len(c.Rules), nil
}

// turn sets the switch in one transaction; before the first plan there is no
// table, and the plan brings the switch along.
func (k *Kernel) turn(ctx context.Context, active, grace bool) error {
	if !k.planned {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("turn the takeover switch: %w", err)
	}
	set := &nftables.Set{Table: ourTable, Name: balancer.SetActive, KeyType: nftables.TypeNFProto}
	k.flip.FlushSet(set)
	el := nftables.SetElement{Key: key(balancer.KeyProto, balancer.Element{})}
	if active {
		if err := k.flip.SetAddElements(set, []nftables.SetElement{el}); err != nil {
			return fmt.Errorf("turn the takeover switch: %w", err)
		}
	}
	if grace {
		timed := &nftables.Set{Table: ourTable, Name: balancer.SetGrace, KeyType: nftables.TypeNFProto, HasTimeout: true}
		k.flip.FlushSet(timed)
		el.Timeout = graceTime
		if err := k.flip.SetAddElements(timed, []nftables.SetElement{el}); err != nil {
			return fmt.Errorf("turn the takeover switch: %w", err)
		}
	}
	if err := k.flip.Flush(); err != nil {
		_ = k.flip.CloseLasting()
		if fresh, openErr := openNft(); openErr == nil {
			k.flip = fresh
		}
		return fmt.Errorf("turn the takeover switch: %w", err)
	}
	return nil
}

func (k *Kernel) removeTable() error {
	have, err := readTable(k.nft)
	if err != nil || have == nil {
		return err
	}
	k.nft.DelTable(ourTable)
	if err := k.flush(); err != nil {
		return fmt.Errorf("remove the table %s: %w", balancer.TableName, err)
	}
	return nil
}
