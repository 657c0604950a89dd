package dataplane

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// message is a datagram of the kernel with one message.
func message(t testing.TB, typ, flags uint16, header []byte, attrs ...mdnetlink.Attribute) []byte {
	body, err := mdnetlink.MarshalAttributes(attrs)
	if err != nil {
		t.Fatal(err)
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(16+len(header)+len(body)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = append(b, make([]byte, 8)...)
	return append(append(b, header...), body...)
}

func number(typ uint16, v uint32) mdnetlink.Attribute {
	return mdnetlink.Attribute{Type: typ, Data: binary.NativeEndian.AppendUint32(nil, v)}
}

func word(typ uint16, s string) mdnetlink.Attribute {
	return mdnetlink.Attribute{Type: typ, Data: append([]byte(s), 0)}
}

// rtmsg is the header of a route or a rule.
func rtmsg(bits, table, protocol byte) []byte {
	return []byte{unix.AF_INET, bits, 0, 0, table, protocol, 0, 1, 0, 0, 0, 0}
}

func ifinfo(flags uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[8:], flags)
	return b
}

func ifaddr(index uint32) []byte { return binary.NativeEndian.AppendUint32(make([]byte, 4), index) }

func aScope() *scope {
	return &scope{
		tables: [2]int{7000, 7063}, priorities: [2]int{7000, 7999},
		main:    map[netip.Prefix]bool{netip.MustParsePrefix("192.168.77.0/24"): true},
		devices: map[string]bool{"wan1": true}, indexes: map[int]bool{5: true},
	}
}

func TestReadRouting(t *testing.T) {
	lan := mdnetlink.Attribute{Type: unix.RTA_DST, Data: []byte{192, 168, 77, 0}}
	compat := func(table uint32) mdnetlink.Attribute { return number(unix.RTA_TABLE, table) }
	for _, c := range []struct {
		name string
		in   []byte
		want sighting
	}{
		{"a route of ours", message(t, unix.RTM_DELROUTE, 0, rtmsg(0, unix.RT_TABLE_COMPAT, 200), compat(4711)), sighting{kinds: setOf(kindRoute)}},
		{"a foreign one in our table", message(t, unix.RTM_NEWROUTE, 0, rtmsg(0, unix.RT_TABLE_COMPAT, 3), compat(7001)), sighting{kinds: setOf(kindRoute)}},
		{"a foreign one elsewhere", message(t, unix.RTM_NEWROUTE, 0, rtmsg(0, unix.RT_TABLE_COMPAT, 12), compat(7064)), sighting{}},
		{"a foreign one in the main table", message(t, unix.RTM_NEWROUTE, 0, rtmsg(24, 254, 12), compat(254), lan), sighting{}},
		{"it takes the place of one of ours", message(t, unix.RTM_NEWROUTE, unix.NLM_F_REPLACE, rtmsg(24, 254, 12), compat(254), lan), sighting{kinds: setOf(kindRoute)}},
		{"the place of another", message(t, unix.RTM_NEWROUTE, unix.NLM_F_REPLACE, rtmsg(25, 254, 12), compat(254), lan), sighting{}},
		{"a rule of ours", message(t, unix.RTM_DELRULE, 0, rtmsg(0, 254, 0), mdnetlink.Attribute{Type: unix.FRA_PROTOCOL, Data: []byte{200}}), sighting{kinds: setOf(kindRule)}},
		{"a rule among ours", message(t, unix.RTM_NEWRULE, 0, rtmsg(0, 254, 0), number(unix.FRA_PRIORITY, 7999)), sighting{kinds: setOf(kindRule)}},
		{"a rule elsewhere", message(t, unix.RTM_NEWRULE, 0, rtmsg(0, 254, 0), number(unix.FRA_PRIORITY, 8000)), sighting{}},
		{"our device", message(t, unix.RTM_NEWLINK, 0, ifinfo(unix.IFF_UP), word(unix.IFLA_IFNAME, "wan1")), sighting{kinds: setOf(kindRoute) | setOf(kindSysctl)}},
		{"our device down", message(t, unix.RTM_NEWLINK, 0, ifinfo(0), word(unix.IFLA_IFNAME, "wan1")), sighting{kinds: setOf(kindRoute) | setOf(kindSysctl), down: []string{"wan1"}}},
		{"our device away", message(t, unix.RTM_DELLINK, 0, ifinfo(unix.IFF_UP), word(unix.IFLA_IFNAME, "wan1")), sighting{kinds: setOf(kindRoute) | setOf(kindSysctl), down: []string{"wan1"}}},
		{"another device", message(t, unix.RTM_DELLINK, 0, ifinfo(0), word(unix.IFLA_IFNAME, "veth0")), sighting{}},
		{"an address of our device", message(t, unix.RTM_DELADDR, 0, ifaddr(5)), sighting{kinds: setOf(kindRoute)}},
		{"an address of another", message(t, unix.RTM_DELADDR, 0, ifaddr(6)), sighting{}},
		{"a sysctl", message(t, unix.RTM_NEWNETCONF, 0, []byte{unix.AF_INET, 0, 0, 0}), sighting{kinds: setOf(kindSysctl)}},
		{"too short", message(t, unix.RTM_NEWROUTE, 0, []byte{2, 0, 0, 0}), sighting{}},
		{"no message", []byte{1, 2, 3}, sighting{}},
		{"a wrong length", []byte{200, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, sighting{kinds: allKinds}},
	} {
		if d := cmp.Diff(c.want, readRouting(c.in, aScope()), cmp.AllowUnexported(sighting{})); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
	if s := readRouting(message(t, unix.RTM_DELROUTE, 0, rtmsg(0, 0, 200)), nil); s.kinds != 0 {
		t.Error("something concerns a kernel without a plan")
	}
}

func TestReadNft(t *testing.T) {
	nft := func(typ uint16, family byte, attrs ...mdnetlink.Attribute) []byte {
		return message(t, unix.NFNL_SUBSYS_NFTABLES<<8|typ, 0, []byte{family, 0, 0, 0}, attrs...)
	}
	for _, c := range []struct {
		name string
		in   []byte
		want kindSet
	}{
		{"our rule", nft(unix.NFT_MSG_DELRULE, unix.NFPROTO_INET, word(unix.NFTA_RULE_TABLE, "harouter")), setOf(kindTable)},
		{"our element", nft(unix.NFT_MSG_DELSETELEM, unix.NFPROTO_INET, word(unix.NFTA_SET_ELEM_LIST_TABLE, "harouter")), setOf(kindTable)},
		{"another table", nft(unix.NFT_MSG_DELTABLE, unix.NFPROTO_INET, word(unix.NFTA_TABLE_NAME, "harouter2")), 0},
		{"another family", nft(unix.NFT_MSG_DELTABLE, unix.NFPROTO_IPV4, word(unix.NFTA_TABLE_NAME, "harouter")), 0},
		{"a generation", nft(unix.NFT_MSG_NEWGEN, 0, word(unix.NFTA_GEN_PROC_NAME, "harouter")), 0},
		{"ours behind another", append(nft(unix.NFT_MSG_DELTABLE, unix.NFPROTO_INET, word(unix.NFTA_TABLE_NAME, "abc")),
			nft(unix.NFT_MSG_DELTABLE, unix.NFPROTO_INET, word(unix.NFTA_TABLE_NAME, "harouter"))...), setOf(kindTable)},
	} {
		if got := readNft(c.in, aScope()); got.kinds != c.want {
			t.Errorf("%s: %b, want %b", c.name, got.kinds, c.want)
		}
	}
}

// TestFingerprint: what counts does not matter, all else does.
func TestFingerprint(t *testing.T) {
	expr := func(name, data string) mdnetlink.Attribute {
		b, err := mdnetlink.MarshalAttributes([]mdnetlink.Attribute{word(unix.NFTA_EXPR_NAME, name), {Type: unix.NFTA_EXPR_DATA, Data: []byte(data)}})
		must(t, err)
		return mdnetlink.Attribute{Type: unix.NFTA_LIST_ELEM, Data: b}
	}
	print := func(attrs ...mdnetlink.Attribute) string {
		b, err := mdnetlink.MarshalAttributes(attrs)
		must(t, err)
		return fingerprint(b)
	}
	rule := print(expr("meta", "abcd"), expr("counter", "1234"))
	if print(expr("meta", "abcd"), expr("counter", "9999")) != rule {
		t.Error("a counter changes the print")
	}
	for name, other := range map[string]string{
		"other data": print(expr("meta", "abce"), expr("counter", "1234")),
		"less":       print(expr("meta", "abcd")),
		"more":       print(expr("meta", "abcd"), expr("counter", ""), expr("immediate", "")),
		"order":      print(expr("counter", "1234"), expr("meta", "abcd")),
	} {
		if other == rule {
			t.Errorf("%s: the same print", name)
		}
	}
}

// FuzzListen: no datagram and no file does harm.
func FuzzListen(f *testing.F) {
	f.Add(message(f, unix.RTM_NEWROUTE, 0, rtmsg(24, 254, 12), number(unix.RTA_TABLE, 7001)))
	f.Add(message(f, unix.RTM_NEWLINK, 0, ifinfo(0), word(unix.IFLA_IFNAME, "wan1")))
	f.Add(message(f, unix.NFNL_SUBSYS_NFTABLES<<8, 0, []byte{1, 0, 0, 0}, word(unix.NFTA_TABLE_NAME, "harouter")))
	f.Add([]byte(`{"net/x": {"before": "1", "ours": "0"}}`))
	f.Add([]byte{3, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		readRouting(b, aScope())
		readNft(b, aScope())
		fingerprint(b)
		all, err := parseSettings(b)
		if all == nil || err != nil && len(all) > 0 {
			t.Errorf("settings %v, %v", all, err)
		}
	})
}
