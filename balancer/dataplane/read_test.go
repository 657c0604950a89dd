package dataplane

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables/userdata"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"harouter/test/netlab"
)

func TestComment(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"none":            {nil, ""},
		"ours":            {userdata.AppendString(nil, userdata.TypeComment, "harouter 1"), "harouter 1"},
		"behind another":  {userdata.AppendString([]byte{1, 2, 0, 0}, userdata.TypeComment, "x"), "x"},
		"empty":           {[]byte{0, 1, 0}, ""},
		"length too long": {[]byte{0, 200, 'a'}, ""},
		"length zero":     {[]byte{0, 0}, ""},
	} {
		if got := comment(c.in); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestReadVerdict(t *testing.T) {
	encode := func(code []byte, chain string) []byte {
		b, err := mdnetlink.MarshalAttributes([]mdnetlink.Attribute{
			{Type: unix.NFTA_VERDICT_CODE, Data: code},
			{Type: unix.NFTA_VERDICT_CHAIN, Data: append([]byte(chain), 0)},
		})
		must(t, err)
		return b
	}
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"a set's element": {nil, ""},
		"goto":            {encode([]byte{0xff, 0xff, 0xff, 0xfc}, "up_dsl"), "goto up_dsl"},
		"jump":            {encode([]byte{0xff, 0xff, 0xff, 0xfd}, "x"), "jump x"},
		"not a verdict":   {encode([]byte{0, 0, 0, 77}, ""), "?"},
		"short":           {[]byte{1}, "?"},
	} {
		if got := readVerdict(c.in); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// FuzzRead: whatever others put into our table, reading it back does no harm.
func FuzzRead(f *testing.F) {
	f.Add(userdata.AppendString(nil, userdata.TypeComment, "harouter 1"))
	f.Add([]byte{0, 0, 0, 0, 8, 0, 1, 0, 0xff, 0xff, 0xff, 0xfc})
	f.Add([]byte{0, 200})
	f.Add([]byte{0, 0, 0, 0, 32, 0, 3, 0x80, 28, 0, 1, 0x80, 12, 0, 1, 0x80, 8, 0, 1, 0, 20, 0, 0, 1, 12, 0, 5, 0, 0xff, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		comment(b)
		readVerdict(b)
		_, _, _ = parseRules([]mdnetlink.Message{{Data: b}})
		for _, e := range parseElements([]mdnetlink.Message{{Data: b}}) {
			if e.left < 0 || len(e.key) > len(b) {
				t.Errorf("%+v", e)
			}
		}
	})
}

// TestDiagnose: this kernel has all that is needed, and asking leaves nothing.
func TestDiagnose(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	k := quietKernel(t)
	c, in := twoUplinks()
	must(t, k.Apply(t.Context(), build(t, c, in)))
	before := netlab.Sh(t, "nft -a list ruleset")
	if err := k.diagnose(unix.ENOENT); err != nil || k.deaf {
		t.Errorf("%v, deaf %v", err, k.deaf)
	}
	if d := cmp.Diff(before, netlab.Sh(t, "nft -a list ruleset")); d != "" {
		t.Errorf("changed:\n%s", d)
	}
	// Without the socket expression the table is another one, in nft's words too.
	script := build(t, c, in).Table.WithoutListener().String()
	if strings.Contains(script, "socket") {
		t.Errorf("still asks for sockets:\n%s", script)
	}
	k.deaf = true
	must(t, k.Apply(t.Context(), build(t, c, in)))
	ours := quiet(netlab.Sh(t, "nft list table inet harouter"))
	netlab.Sh(t, "nft delete table inet harouter; nft -f - <<'EOF'\n"+script+"EOF")
	if d := cmp.Diff(sorted(ours), sorted(quiet(netlab.Sh(t, "nft list table inet harouter")))); d != "" {
		t.Errorf("-applied +script:\n%s", d)
	}
}
