package dataplane

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// What the admin's snippets put into our table is written by another part, with
// the program nft (balancer/snippets). Here it is left alone, and looked after:
// once kept, it counts as damage when it is another one.

// isUser tells what is the admin's in our table.
func isUser(name string) bool { return strings.HasPrefix(name, balancer.UserPrefix) }

// userPart is what there is of the admin's.
type userPart struct{ chains, sets []string }

// print sums it up. The elements of sets are not part of it: they may come and go.
func (u userPart) print(rules map[string][]written) string {
	slices.Sort(u.chains)
	slices.Sort(u.sets)
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%q\n", u.sets)
	for _, c := range u.chains {
		_, _ = fmt.Fprintf(sum, "%q\n", c)
		for _, r := range rules[c] {
			_, _ = fmt.Fprintf(sum, "%x\n", r.print)
		}
	}
	return string(sum.Sum(nil))
}

// BeginUser says that the admin's part of the table is about to be written:
// until KeepUser nothing that happens to it counts. What it returns is for
// KeepUser.
func (k *Kernel) BeginUser() uint64 {
	k.applying.Lock()
	defer k.applying.Unlock()
	k.user = ""
	return k.tables
}

// KeepUser takes the admin's part of the table for right, as it is now. It returns
// false, and keeps nothing, if the table is another one than at BeginUser, or
// none.
func (k *Kernel) KeepUser(begun uint64) (bool, error) {
	k.applying.Lock()
	defer k.applying.Unlock()
	if k.tables != begun {
		return false, nil
	}
	have, err := k.readTable()
	if err != nil {
		return false, fmt.Errorf("read the table %s: %w", balancer.TableName, err)
	}
	if have == nil || have.strange {
		return false, nil
	}
	k.user = have.user
	return true, nil
}

// lostUser notes that the admin's part has to be written anew.
func (k *Kernel) lostUser() {
	k.user = ""
	k.tables++
	if k.cfg.UserLost != nil {
		k.cfg.UserLost()
	}
}

// readSets lists the sets of our table. The library knows not all types that the
// admin's sets and rules may have, and gives up at the first one: then those of
// ours are asked for by name.
func (k *Kernel) readSets() ([]*nftables.Set, error) {
	if sets, err := k.nft.GetSets(ourTable); err == nil {
		return sets, nil
	}
	ae := mdnetlink.NewAttributeEncoder()
	ae.String(unix.NFTA_SET_TABLE, ourTable.Name)
	attrs, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	answer, err := k.ask(unix.NFT_MSG_GETSET, mdnetlink.Dump, ourTable.Family, attrs)
	if err != nil {
		return nil, err
	}
	var out []*nftables.Set
	for _, m := range answer {
		if len(m.Data) < 4 {
			continue
		}
		name := strings.TrimRight(string(attribute(m.Data[4:], unix.NFTA_SET_NAME)), "\x00")
		switch {
		case strings.HasPrefix(name, "__"): // anonymous
		case isUser(name):
			out = append(out, &nftables.Set{Name: name})
		default:
			s, err := k.nft.GetSetByName(ourTable, name)
			if err != nil {
				return nil, fmt.Errorf("read the set %s: %w", name, err)
			}
			out = append(out, s)
		}
	}
	return out, nil
}
