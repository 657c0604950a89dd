package dataplane

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// needs are the parts of nftables that a kernel may be built without, by the
// option that brings them.
var needs = []struct {
	option string
	hook   *nftables.ChainHook
	kind   nftables.ChainType
	exprs  []expr.Any
}{
	{"NF_TABLES_INET", nil, "", nil},
	{"NFT_CT", nil, "", []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}}},
	{"NF_CONNTRACK_MARK", nil, "", []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: 1}}},
	{"NFT_NUMGEN", nil, "", []expr.Any{&expr.Numgen{Register: 1, Modulus: balancer.SlotCount, Type: unix.NFT_NG_RANDOM}}},
	{"NFT_FIB_INET", nftables.ChainHookPrerouting, nftables.ChainTypeFilter, []expr.Any{&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true}}},
	{"NFT_FIB_INET", nftables.ChainHookPrerouting, nftables.ChainTypeFilter, []expr.Any{sourceBehind(), sourceHere()}}, // in other chains only since 6.10
	{optionXFRM, nil, "", []expr.Any{&expr.Meta{Key: metaSecpath, Register: 1}, &expr.Rt{Key: rtXFRM, Register: 1}}},
	{"NFT_REJECT_INET", nftables.ChainHookForward, nftables.ChainTypeFilter, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}},
	{"NFT_NAT", nftables.ChainHookPostrouting, nftables.ChainTypeNAT, []expr.Any{
		&expr.Immediate{Register: 1, Data: []byte{192, 0, 2, 1}},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	}},
	{"NFT_HASH", nil, "", []expr.Any{
		&expr.Immediate{Register: 2, Data: []byte{192, 0, 2, 1}},
		&expr.Hash{SourceRegister: 2, DestRegister: 1, Length: 4, Modulus: balancer.SlotCount, Seed: balancer.HashSeed, Type: expr.HashTypeJenkins},
	}},
	{"NFT_COUNTER", nil, "", []expr.Any{&expr.Counter{}}}, // part of NF_TABLES since 5.17
	{"NFT_LIMIT", nil, "", []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: 1, Unit: expr.LimitTimeSecond, Burst: 5}}},
	{"NFT_LOG", nil, "", []expr.Any{&expr.Log{Key: 1 << unix.NFTA_LOG_PREFIX, Data: []byte("harouter")}}},
	{"NFT_MASQ", nftables.ChainHookPostrouting, nftables.ChainTypeNAT, []expr.Any{&expr.Masq{}}},
	{optionSocket, nftables.ChainHookInput, nftables.ChainTypeFilter, []expr.Any{&expr.Socket{Key: expr.SocketKeyMark, Register: 1}}},
}

// What we can live without.
const (
	optionSocket = "NFT_SOCKET"
	optionXFRM   = "XFRM"
)

// diagnose looks for what the kernel lacks after a transaction was refused with
// an error that says no more than "no such file or directory". Without
// NFT_SOCKET and XFRM we can live. It returns nil if a retry makes sense.
func (k *Kernel) diagnose(refused error) error {
	if !errors.Is(refused, unix.ENOENT) && !errors.Is(refused, unix.EOPNOTSUPP) && !errors.Is(refused, unix.EINVAL) {
		return nil
	}
	var missing []string
	for _, n := range needs {
		if err := k.try(n.hook, n.kind, n.exprs); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			missing = append(missing, n.option)
		}
	}
	deaf, noIPsec := slices.Contains(missing, optionSocket), slices.Contains(missing, optionXFRM)
	if deaf && !k.deaf {
		k.cfg.Log.Warn("this kernel has no " + optionSocket + ": answers from virtual addresses that tell of a closed port are dropped instead of the question")
	}
	if deaf && !k.deaf || noIPsec && !k.noIPsec { // else the table did without already
		missing = slices.DeleteFunc(missing, func(option string) bool { return option == optionSocket || option == optionXFRM })
		k.deaf, k.noIPsec = deaf, noIPsec
	}
	if len(missing) > 0 {
		return fmt.Errorf("write the table %s: this kernel lacks %s (load the module, or use a kernel with the option): %w",
			balancer.TableName, strings.Join(missing, ", "), refused)
	}
	return nil
}

// try makes a table with one rule and takes it away again, in one transaction
// that no packet sees.
func (k *Kernel) try(hook *nftables.ChainHook, kind nftables.ChainType, exprs []expr.Any) error {
	t := &nftables.Table{Name: balancer.TableName + "_try", Family: nftables.TableFamilyINet}
	k.nft.AddTable(t)
	chain := &nftables.Chain{Name: "try", Table: t}
	if hook != nil {
		chain.Hooknum, chain.Type, chain.Priority = hook, kind, nftables.ChainPriorityFilter
	}
	k.nft.AddChain(chain)
	if len(exprs) > 0 {
		k.nft.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: exprs})
	}
	k.nft.DelTable(t)
	return commit(&k.nft)
}
