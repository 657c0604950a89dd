package balancer

import (
	"strings"
	"testing"
)

const goodSnippet = `# guests
define bad = { 192.0.2.66, 192.0.2.67 }
set user_blocked {
	type ipv4_addr; flags interval
	elements = { $bad,
		198.51.100.9 }
}
counter user_n { comment "a } brace"; }
chain user_drop { counter name user_n drop; }
chain user_forward {
	iifname @lan_if ip saddr @user_blocked jump user_drop # } not the end
	@nh,72,8 6 \
		tcp dport { 25, 465 } reject
	oifname "} {" goto user_drop
}
`

func TestSnippetCheck(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"all that is allowed", goodSnippet, ""},
		{"nothing", "", ""},
		{"the table left", "chain user_x {\n}\n}\nflush ruleset\n", "line 3: a brace closes what was not opened"},
		{"no end", "chain user_x {\n", "line 2: a brace is not closed"},
		{"a quote without end", "chain user_x {\nlog prefix \"a\n}", "line 2: a quote is not closed"},
		{"a chain of ours", "chain forwarded {\n}\n", "line 1: chain forwarded: its name must begin with user_"},
		{"a set of ours", "\nset wan_if { type ifname; }", "line 2: set wan_if: its name must begin with user_"},
		{"a command", "flush ruleset\n", "line 1: flush: what stands between the braces of a table is wanted"},
		{"a table", "table inet x {\n}\n", "line 1: table: what stands"},
		{"another file", "include \"/etc/x\"\n", "line 1: include: each file"},
		{"another file in a chain", "chain user_x {\n\tinclude \"/etc/x\"\n}\n", "line 2: include: each file"},
		{"a hook", "chain user_x {\n\ttype filter hook forward priority 0; policy drop;\n}", "line 2: a chain with a hook: rules have their places in user_prerouting, "},
		{"a policy", "chain user_input { policy drop; }", "line 1: policy: a chain of ours"},
		{"a jump to ours", "chain user_x {\n\ttcp dport 1 goto up_dsl\n}", "line 2: goto up_dsl: only chains"},
		{"a set that comes and goes", "chain user_x {\n\tip saddr @elsewhere_dsl drop\n}", "line 2: @elsewhere_dsl: only sets"},
		{"a helper", "ct helper ftp { type \"ftp\" protocol tcp; }", "line 1: ct helper ftp: its name"},
		{"a brace alone", "{\n}", "line 1: a brace without a name"},
	} {
		err := Snippet{Name: "10-x.nft", Text: test.text}.Check()
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)):
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
	if err := (Snippet{Name: "a\nb.nft"}).Check(); err == nil {
		t.Error("a name of two lines is taken")
	}
}

// TestSnippetText: only the chains that are filled are made.
func TestSnippetText(t *testing.T) {
	text := SnippetText([]Snippet{{"10-a.nft", "chain user_input {\n}"}, {"20-b.nft", "chain user_input {\n}\nchain user_own {\n}"}})
	want := `table inet harouter {
	chain user_input {
		type filter hook input priority -11; policy accept;
	}
}
# nft.d/10-a.nft
table inet harouter {
chain user_input {
}
}
# nft.d/20-b.nft
table inet harouter {
chain user_input {
}
chain user_own {
}
}
`
	if text != want {
		t.Errorf("got\n%s", text)
	}
	if text := SnippetText(nil); text != "" {
		t.Errorf("of nothing: %s", text)
	}
}

// FuzzSnippet: what passes ends no brace that is not its own.
func FuzzSnippet(f *testing.F) {
	f.Add(goodSnippet)
	f.Add("chain user_x {\n}\n}\ntable inet y {\n")
	f.Add("define x = \"")
	f.Add("chain user_x { jump { drop; } }\\")
	f.Fuzz(func(t *testing.T, text string) {
		s := Snippet{Name: "x.nft", Text: text}
		if s.Check() != nil {
			return
		}
		if (Snippet{Name: "x.nft", Text: text + "\n}"}).Check() == nil {
			t.Errorf("a brace too much is taken after %q", text)
		}
	})
}
