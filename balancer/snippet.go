package balancer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// UserPrefix begins the names of all that snippets of the admin put into our
// table, and of nothing else there.
const UserPrefix = "user_"

// Snippet is a file with rules of the admin for our table: chains, sets, maps
// and objects, as they stand between the braces of a table for nft -f.
type Snippet struct {
	Name string // of the file
	Text string
}

// userChains are the chains that snippets may fill. Each has a hook of its own
// before ours, so what it accepts still passes what we check, and none is there
// that no snippet fills. The one at prerouting is before our marks.
var userChains = []Chain{
	{Name: "user_prerouting", Type: "filter", Hook: "prerouting", Priority: prioMark - 5},
	{Name: "user_dnat", Type: "nat", Hook: "prerouting", Priority: prioDNAT - 1},
	{Name: "user_input", Type: "filter", Hook: "input", Priority: prioFilter - 1},
	{Name: "user_forward", Type: "filter", Hook: "forward", Priority: prioFilter - 1},
	{Name: "user_output", Type: "filter", Hook: "output", Priority: prioFilter - 1},
	{Name: "user_postrouting", Type: "filter", Hook: "postrouting", Priority: prioSNAT - 1},
	{Name: "user_snat", Type: "nat", Hook: "postrouting", Priority: prioSNAT - 1},
}

// sharedSets are those of ours that every plan has, for snippets to ask.
var sharedSets = []string{"wan_if", "lan_if", "nodes", "inside", "virtual"}

// snippetObjects are what a snippet may hold, with the number of the word that
// is its name.
var snippetObjects = map[string]int{
	"chain": 1, "set": 1, "map": 1, "counter": 1, "quota": 1, "limit": 1, "secmark": 1, "synproxy": 1,
	"ct helper": 2, "ct timeout": 2, "ct expectation": 2,
}

// Check tells whether a snippet keeps to what is the admin's: names with
// UserPrefix, no chain with a hook of its own, no end of the table. What else is
// wrong with it nft says.
func (s Snippet) Check() error {
	_, err := s.read()
	return err
}

// SnippetText is what nft -f reads to fill our table with snippets, which have
// passed Check: the chains that they fill, then each under a remark with its name.
func SnippetText(all []Snippet) string {
	filled := map[string]bool{}
	for _, s := range all {
		chains, _ := s.read()
		for _, c := range chains {
			filled[c] = true
		}
	}
	var b strings.Builder
	var base Table
	for _, c := range userChains {
		if filled[c.Name] {
			base.Chains = append(base.Chains, c)
		}
	}
	if len(base.Chains) > 0 {
		b.WriteString(base.String())
	}
	for _, s := range all {
		fmt.Fprintf(&b, "%s%s\ntable inet %s {\n%s\n}\n", SnippetRemark, s.Name, TableName, s.Text)
	}
	return b.String()
}

// SnippetRemark begins the line before each snippet; its text begins two lines below.
const SnippetRemark = "# nft.d/"

// reading is how far a snippet is read.
type reading struct {
	line   int
	words  []string   // of the statement
	opened [][]string // the statements whose braces are open
	chains []string
}

// read returns the names of the chains that it holds.
func (s Snippet) read() (chains []string, err error) {
	if s.Name == "" || strings.ContainsFunc(s.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return nil, fmt.Errorf("%q is no name for a file of rules", s.Name)
	}
	r := reading{line: 1}
	fail := func(err error) ([]string, error) { return nil, fmt.Errorf("line %d: %w", r.line, err) }
	text := s.Text
	for text != "" {
		switch c := text[0]; c {
		case '\n', ';':
			if err := r.end(); err != nil {
				return fail(err)
			}
			if c == '\n' {
				r.line++
			}
		case ' ', '\t', '\r':
		case '\\':
			if strings.HasPrefix(text, "\\\n") { // the statement goes on
				text = text[1:]
				r.line++
			}
		case '#':
			n := strings.IndexByte(text, '\n')
			if n < 0 {
				n = len(text)
			}
			text = text[n:]
			continue
		case '"':
			n := strings.IndexAny(text[1:], "\"\n")
			if n < 0 || text[1+n] != '"' {
				return fail(errors.New("a quote is not closed"))
			}
			r.words = append(r.words, text[:n+2])
			text = text[n+1:]
		case '{':
			if err := r.open(); err != nil {
				return fail(err)
			}
		case '}':
			if len(r.opened) == 0 {
				return fail(errors.New("a brace closes what was not opened"))
			}
			if err := r.end(); err != nil {
				return fail(err)
			}
			last := len(r.opened) - 1
			r.words, r.opened = append(r.opened[last], "{}"), r.opened[:last]
		default:
			n := strings.IndexAny(text, " \t\r\n;{}\"#\\")
			if n == 0 {
				n = 1
			}
			if n < 0 {
				n = len(text)
			}
			if err := r.word(text[:n]); err != nil {
				return fail(err)
			}
			text = text[n:]
			continue
		}
		text = text[1:]
	}
	if len(r.opened) > 0 {
		return fail(errors.New("a brace is not closed"))
	}
	if err := r.end(); err != nil {
		return fail(err)
	}
	return r.chains, nil
}

// word takes a word, which may name something outside.
func (r *reading) word(w string) error {
	if n := len(r.words); n > 0 && (r.words[n-1] == "jump" || r.words[n-1] == "goto") && !strings.HasPrefix(w, UserPrefix) && !strings.HasPrefix(w, "$") {
		return fmt.Errorf("%s %s: only chains whose names begin with %s are the admin's", r.words[n-1], w, UserPrefix)
	}
	if _, set, ok := strings.Cut(w, "@"); ok {
		set = strings.TrimRight(set, ",")
		raw := slices.ContainsFunc([]string{"ll", "nh", "th", "ih"}, func(base string) bool { return set == base || strings.HasPrefix(set, base+",") })
		if !raw && !strings.HasPrefix(set, UserPrefix) && !slices.Contains(sharedSets, set) {
			return fmt.Errorf("@%s: only sets whose names begin with %s are the admin's; besides there are %s", set, UserPrefix, strings.Join(sharedSets, ", "))
		}
	}
	r.words = append(r.words, w)
	return nil
}

// open takes an opening brace.
func (r *reading) open() error {
	if len(r.opened) == 0 {
		if err := r.top(); err != nil {
			return err
		}
	}
	r.opened = append(r.opened, r.words)
	r.words = nil
	return nil
}

// end takes the end of a statement.
func (r *reading) end() error {
	words := r.words
	r.words = nil
	if len(words) == 0 {
		return nil
	}
	if words[0] == "include" {
		return errors.New("include: each file of rules stands for itself")
	}
	if len(r.opened) == 0 {
		r.words = words
		err := r.top()
		r.words = nil
		return err
	}
	if len(r.opened) == 1 && r.opened[0][0] == "chain" {
		if words[0] == "type" && slices.Contains(words, "hook") {
			return fmt.Errorf("a chain with a hook: rules have their places in %s; other hooks belong in a table of their own", userChainNames())
		}
		if words[0] == "policy" {
			return errors.New("policy: a chain of ours has none but accept; drop as the last rule does the same")
		}
	}
	return nil
}

// top looks at what a statement outside of all braces declares.
func (r *reading) top() error {
	if len(r.words) == 0 {
		return errors.New("a brace without a name")
	}
	kind := r.words[0]
	if kind == "define" {
		return nil
	}
	if kind == "ct" && len(r.words) > 1 {
		kind += " " + r.words[1]
	}
	at, ok := snippetObjects[kind]
	if !ok {
		return fmt.Errorf("%s: what stands between the braces of a table is wanted: chain, set, map, counter, quota, limit, ct helper, define", kind)
	}
	if len(r.words) <= at || !strings.HasPrefix(r.words[at], UserPrefix) {
		return fmt.Errorf("%s: its name must begin with %s", strings.Join(r.words, " "), UserPrefix)
	}
	if kind == "chain" {
		r.chains = append(r.chains, r.words[at])
	}
	return nil
}

func userChainNames() string {
	var names []string
	for _, c := range userChains {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}
