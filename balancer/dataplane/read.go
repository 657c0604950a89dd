package dataplane

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// present is our table as it is in the kernel.
type present struct {
	flags    uint32
	chains   map[string]*nftables.Chain
	rules    map[string][]written // by chain
	sets     map[string]*nftables.Set
	elements map[string]map[string]string // by set, key bytes to verdict
	strange  bool                         // holds what cannot be read: not from us
	user     string                       // print of what the admin's snippets put there
}

// readTable returns nil if there is no table of ours.
func (k *Kernel) readTable() (*present, error) {
	c := k.nft
	table, err := c.ListTableOfFamily(ourTable.Name, ourTable.Family)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	have := &present{
		flags: table.Flags, chains: map[string]*nftables.Chain{},
		sets: map[string]*nftables.Set{}, elements: map[string]map[string]string{},
	}
	chains, err := c.ListChainsOfTableFamily(ourTable.Family)
	if err != nil {
		return nil, err
	}
	var user userPart
	for _, ch := range chains {
		switch {
		case ch.Table.Name != ourTable.Name:
		case isUser(ch.Name):
			user.chains = append(user.chains, ch.Name)
		default:
			have.chains[ch.Name] = ch
		}
	}
	if have.rules, err = k.readRules(); err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	sets, err := k.readSets()
	if err != nil {
		have.strange = true
		return have, nil
	}
	for _, s := range sets {
		if s.Anonymous {
			continue
		}
		if isUser(s.Name) {
			user.sets = append(user.sets, s.Name)
			continue
		}
		s.Table = ourTable
		have.sets[s.Name] = s
		if s.Dynamic { // what rules put there is theirs
			continue
		}
		elements, err := c.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("read the set %s: %w", s.Name, err)
		}
		have.elements[s.Name] = map[string]string{}
		for _, e := range elements {
			have.elements[s.Name][elementKey(e)] = readVerdict(e.Val)
		}
	}
	have.user = user.print(have.rules)
	return have, nil
}

// written is one rule as it is in the kernel.
type written struct {
	tag   string // its comment
	print string // of what it does
}

// readRules lists all rules of our table, in order, by chain. It does not
// decode them (as nftables.Conn.GetRules does): one dump is enough, and no
// foreign expression can make it fail.
func (k *Kernel) readRules() (map[string][]written, error) {
	ae := mdnetlink.NewAttributeEncoder()
	ae.String(unix.NFTA_RULE_TABLE, ourTable.Name)
	attrs, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		answer, err := k.ask(unix.NFT_MSG_GETRULE, mdnetlink.Dump, ourTable.Family, attrs)
		if err != nil {
			return nil, err
		}
		rules, interrupted, err := parseRules(answer)
		// Interrupted: the ruleset, not necessarily ours, changed meanwhile. If it
		// does so all the time, a chain too much may be written anew.
		if err != nil || !interrupted || try == dumpTries {
			return rules, err
		}
	}
}

// ask sends one question to nftables. The socket is kept: closing one waits
// until the kernel has freed what was last replaced.
func (k *Kernel) ask(question uint16, flags mdnetlink.HeaderFlags, family nftables.TableFamily, attrs []byte) ([]mdnetlink.Message, error) {
	if k.rules == nil {
		c, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(c.SetReadBuffer(8<<20), largeAnswers(c)); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		k.rules = c
	}
	answer, err := k.rules.Execute(request(question, flags, family, attrs))
	if err != nil {
		err = errors.Join(err, k.rules.Close())
		k.rules = nil
	}
	return answer, err
}

func request(question uint16, flags mdnetlink.HeaderFlags, family nftables.TableFamily, attrs []byte) mdnetlink.Message {
	return mdnetlink.Message{
		Header: mdnetlink.Header{
			Type:  mdnetlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | question),
			Flags: mdnetlink.Request | flags,
		},
		Data: append([]byte{byte(family), unix.NFNETLINK_V0, 0, 0}, attrs...),
	}
}

// largest is the longest datagram in which the kernel lists something, bytes.
const largest = 32 << 10

// largeAnswers makes them that long on this socket, instead of a page: the kernel
// goes by the longest buffer that was ever read into, and the library reads into
// ones of the length that it was sent. In each datagram the kernel walks a set from
// its first element on, so a full one costs a tenth in long ones.
func largeAnswers(c *mdnetlink.Conn) error {
	if _, err := c.Send(request(unix.NFT_MSG_GETGEN, 0, nftables.TableFamilyUnspecified, nil)); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	b := make([]byte, largest)
	var failed error
	if err := raw.Read(func(fd uintptr) bool {
		for failed = unix.EINTR; failed == unix.EINTR; {
			_, _, failed = unix.Recvfrom(int(fd), b, 0)
		}
		return failed != unix.EAGAIN
	}); err != nil {
		return err
	}
	return failed
}

// generation is the number of transactions so far, of everybody.
func (k *Kernel) generation() (uint32, error) {
	answer, err := k.ask(unix.NFT_MSG_GETGEN, 0, nftables.TableFamilyUnspecified, nil)
	if err != nil {
		return 0, fmt.Errorf("read the generation of nftables: %w", err)
	}
	for _, m := range answer {
		if len(m.Data) < 4 {
			continue
		}
		if id := attribute(m.Data[4:], unix.NFTA_GEN_ID); len(id) == 4 {
			return binary.BigEndian.Uint32(id), nil
		}
	}
	return 0, errors.New("read the generation of nftables: no answer")
}

func parseRules(answer []mdnetlink.Message) (rules map[string][]written, interrupted bool, err error) {
	rules = map[string][]written{}
	for _, m := range answer {
		interrupted = interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
		if len(m.Data) < 4 {
			continue
		}
		ad, err := mdnetlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return nil, false, err
		}
		chain := ""
		var r written
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_RULE_CHAIN:
				chain = ad.String()
			case unix.NFTA_RULE_USERDATA:
				r.tag = comment(ad.Bytes())
			case unix.NFTA_RULE_EXPRESSIONS:
				r.print = fingerprint(ad.Bytes())
			}
		}
		if err := ad.Err(); err != nil {
			return nil, false, err
		}
		rules[chain] = append(rules[chain], r)
	}
	return rules, interrupted, nil
}

// counting are the expressions whose data changes with the packets.
var counting = map[string]bool{"counter": true, "quota": true, "last": true}

// fingerprint sums up what a rule does: its expressions as the kernel tells
// them, without what they have counted.
func fingerprint(list []byte) string {
	sum := sha256.New()
	for len(list) >= unix.SizeofNlAttr {
		n := int(binary.NativeEndian.Uint16(list))
		if n < unix.SizeofNlAttr || n > len(list) {
			break
		}
		element := list[unix.SizeofNlAttr:n]
		name := strings.TrimRight(string(attribute(element, unix.NFTA_EXPR_NAME)), "\x00")
		data := attribute(element, unix.NFTA_EXPR_DATA)
		if counting[name] {
			data = nil
		}
		_, _ = fmt.Fprintf(sum, "%q %x\n", name, data)
		list = list[min((n+3)&^3, len(list)):]
	}
	_, _ = sum.Write(list) // of a length that cannot be
	return string(sum.Sum(nil)[:12])
}

// comment takes the comment out of a rule's user data, a list of type, length,
// value. (userdata.GetString panics if somebody's length is wrong.)
func comment(b []byte) string {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if userdata.Type(b[0]) == userdata.TypeComment && b[1] > 0 {
			return string(b[2 : 1+int(b[1])]) // without the NUL
		}
		b = b[2+int(b[1]):]
	}
	return ""
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
	ad.ByteOrder = binary.BigEndian
	chain := ""
	var code int32
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			code = int32(ad.Uint32())
		case unix.NFTA_VERDICT_CHAIN:
			chain = ad.String()
		}
	}
	for name, kind := range verdicts {
		if ad.Err() == nil && int32(kind) == code {
			return (balancer.Jump{Kind: name, Chain: chain}).String()
		}
	}
	return "?"
}

// fits tells whether chains and sets that have a plan's names are of its kinds.
func (h *present) fits(t balancer.Table) bool {
	if h.strange {
		return false
	}
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
		if have != nil && (have.Interval != s.Interval || have.Dynamic != (s.Lasts > 0) || have.IsMap != s.Verdicts || have.HasTimeout != s.Timeout || !s.Verdicts && have.KeyType.Bytes != typ.Bytes) {
			return false
		}
	}
	return true
}
