package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// NewNode is a node that is to stand in the file.
type NewNode struct {
	Name      string
	Addresses []netip.Addr // in order of preference, at least one
	Priority  uint8        // 1…254; 0: NextPriority of the file
	Devices   map[string]string
}

// NextPriority is what a further node gets if nobody says another: 50 below the
// lowest of the file, at least 1.
func (c *Config) NextPriority() uint8 {
	low := uint8(254)
	for _, n := range c.Nodes {
		low = min(low, n.Priority)
	}
	return max(low, 51) - 50
}

// AddNode writes a node into the text of a file, behind the others and in the
// style of the last one; everything else stays as it is, to the byte. The result
// is a valid file that says the same but for this node, or there is an error. A
// node that is there with the same name and data (any priority, where n has
// none) leaves the text unchanged; with other data it is an error.
func AddNode(text []byte, n NewNode) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("add node %s: %w", quote(n.Name), err) }
	old, problems := Parse("the file", text)
	if err := problems.Err(); err != nil {
		return fail(fmt.Errorf("the file has mistakes already:\n%w", err))
	}
	if err := n.check(); err != nil {
		return fail(err)
	}
	for _, is := range old.Nodes {
		if is.Name != n.Name {
			continue
		}
		if n.is(is) {
			return text, nil
		}
		return fail(fmt.Errorf("there is a node of that name with other data (%s); allowed: another name, or the same data", entryText(is)))
	}
	add := Node{Name: n.Name, Addresses: n.Addresses, Priority: cmp.Or(n.Priority, old.NextPriority())}
	if len(n.Devices) > 0 {
		add.Devices = n.Devices
	}
	byHand := fmt.Errorf("%w; add this under nodes: %s: %s", errLayout, keyText(n.Name), entryText(add))
	file, lists, _ := Unpack(text) // Parse did
	l, err := newLayout(file)
	if err != nil {
		return fail(byHand)
	}
	out := Pack(l.apply(l.insert(add)), lists)
	want := *old
	want.Nodes = append(slices.Clone(old.Nodes), add)
	return verified(out, &want, fail, byHand)
}

// RemoveNode takes a node out of the text of a file; everything else stays as it
// is. The result is a valid file that says the same but for this node, or there
// is an error. A file keeps at least one node.
func RemoveNode(text []byte, name string) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("remove node %s: %w", quote(name), err) }
	old, problems := Parse("the file", text)
	if err := problems.Err(); err != nil {
		return fail(fmt.Errorf("the file has mistakes already:\n%w", err))
	}
	var names []string
	for _, n := range old.Nodes {
		names = append(names, n.Name)
	}
	i := slices.Index(names, name)
	switch {
	case i < 0:
		return fail(fmt.Errorf("there is no such node%s; the file has: %s", didYouMean(name, names), join(names)))
	case len(names) == 1:
		return fail(errors.New("it is the only one; a file has at least one node"))
	}
	byHand := fmt.Errorf("%w; remove its entry under nodes", errLayout)
	file, lists, _ := Unpack(text) // Parse did
	l, err := newLayout(file)
	if err != nil {
		return fail(byHand)
	}
	byHand = fmt.Errorf("%w; remove its entry under nodes, in line %d", errLayout, l.nodes.entries[i].key.line)
	out := Pack(l.apply(l.remove(i)), lists)
	want := *old
	want.Nodes = slices.Delete(slices.Clone(old.Nodes), i, i+1)
	return verified(out, &want, fail, byHand)
}

// verified reads an edited text back: editing by the shape of the text may go
// wrong, saying something else by it may not.
func verified(out []byte, want *Config, fail func(error) ([]byte, error), byHand error) ([]byte, error) {
	got, problems := Parse("the file", out)
	if got != nil {
		want.Hash = got.Hash
		if reflect.DeepEqual(want, got) {
			return out, nil
		}
		return fail(byHand)
	}
	var texts []string
	for _, p := range problems.Errors() {
		if strings.HasPrefix(p.Text, "not valid YAML") {
			return fail(byHand)
		}
		texts = append(texts, p.Text)
	}
	return fail(errors.New(strings.Join(texts, "; ")))
}

// check refuses what cannot stand in a file. It comes from other machines.
func (n NewNode) check() error {
	var errs []error
	is := func(what, text string, parse func(*value) (string, error)) {
		if _, err := parse(&value{kind: scalar, text: text}); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", what, err))
		}
	}
	is("the name", n.Name, name(maxHostName))
	if len(n.Addresses) == 0 || len(n.Addresses) > maxPaths {
		errs = append(errs, fmt.Errorf("it has %d addresses; allowed: 1 to %d", len(n.Addresses), maxPaths))
	}
	for _, a := range n.Addresses {
		if !a.IsValid() {
			errs = append(errs, errors.New("one of its addresses is none; allowed: an IPv4 address"))
		} else if err := nodeAddress(a); err != nil {
			errs = append(errs, err)
		}
	}
	if n.Priority == 255 {
		errs = append(errs, errors.New("priority 255 is out of range; allowed: 1 to 254"))
	}
	for _, link := range slices.Sorted(maps.Keys(n.Devices)) {
		is("devices:", link, name(maxName))
		is("devices:", n.Devices[link], device)
	}
	return errors.Join(errs...)
}

func (n NewNode) is(old Node) bool {
	return slices.Equal(n.Addresses, old.Addresses) && (n.Priority == 0 || n.Priority == old.Priority) && maps.Equal(n.Devices, old.Devices)
}

// change replaces the text between two offsets.
type change struct {
	from, to int
	text     string
}

func (l *layout) apply(changes []change) []byte {
	slices.SortFunc(changes, func(a, b change) int { return a.from - b.from })
	var out []byte
	at := 0
	for _, c := range changes {
		out = append(append(out, l.text[at:c.from]...), c.text...)
		at = c.to
	}
	return append(out, l.text[at:]...)
}

// insert puts a node behind the last one.
func (l *layout) insert(n Node) []change {
	if l.flow {
		return l.insertFlow(n)
	}
	last := len(l.at) - 1
	key, end := l.at[last], l.blockEnd(last)
	nl, indent := l.newline(key), l.indent(key)
	text := indent + keyText(n.Name) + ": "
	if v := l.nodes.entries[last].value; v.kind == mapping && !l.inFlow(v) && len(v.entries) > 0 {
		text = strings.TrimSuffix(text, " ")
		for _, field := range fields(n) {
			text += nl + strings.Repeat(" ", v.entries[0].key.col-1) + field
		}
	} else {
		text += entryText(n)
	}
	if last > 0 && l.blankBefore(key) && (end == len(l.text) || l.rest(end) == "") {
		text = nl + text // these nodes stand apart from each other
	}
	if strings.HasSuffix(l.text[:end], "\n") {
		return []change{{end, end, text + nl}}
	}
	return []change{{end, end, nl + text}}
}

func (l *layout) insertFlow(n Node) []change {
	last := len(l.items) - 1
	key, it := l.at[last], l.items[last]
	nl, text := l.newline(key), keyText(n.Name)+": "+entryText(n)
	at, comma := it.end, ","
	if it.comma >= 0 { // this one's style is a comma behind the last
		at, comma, text = it.comma+1, "", text+","
	}
	switch {
	case !l.first(key):
		return []change{{at, at, comma + " " + text}}
	case l.lineEnd(at) > l.close:
		return []change{{at, at, comma + nl + l.indent(key) + text}}
	}
	end := l.lineEnd(at) // there is a line below: the brace's
	return []change{{at, at, comma}, {end, end, l.indent(key) + text + nl}}
}

// remove takes node i out; it is not the only one.
func (l *layout) remove(i int) []change {
	key := l.at[i]
	switch {
	case l.flow && i < len(l.at)-1:
		return l.removeFlow(i)
	case l.flow:
		return l.removeLastFlow(i)
	}
	from, to := l.lineStart(key), l.blockEnd(i)
	if l.blankBefore(key) && (to == len(l.text) || l.rest(to) == "") {
		from = l.lineStart(from - 1) // of two empty lines one stays
	}
	if to == len(l.text) && !strings.HasSuffix(l.text, "\n") {
		from = len(strings.TrimRight(l.text[:from], "\r\n"))
	}
	return []change{{from, to, ""}}
}

func (l *layout) removeFlow(i int) []change {
	key, to, next := l.at[i], l.items[i].comma+1, l.at[i+1]
	alone := isComment(l.rest(to))
	switch {
	case l.first(key) && alone:
		return []change{{l.lineStart(key), l.lineEnd(to), ""}}
	case strings.Count(l.text[to:next], "\n") > 1: // more than this node's own comment
		return []change{{key, to, ""}}
	}
	return []change{{key, next, ""}}
}

func (l *layout) removeLastFlow(i int) []change {
	key, it, before := l.at[i], l.items[i], l.items[i-1].comma
	end := max(it.end, it.comma+1)
	changes := []change{{key, end, ""}}
	switch {
	case strings.TrimSpace(l.text[before+1:key]) == "" && !(l.first(key) && isComment(l.rest(end))):
		changes[0].from = before + 1 // the blanks or the line between
	case l.first(key) && isComment(l.rest(end)):
		changes[0] = change{l.lineStart(key), l.lineEnd(end), ""}
	}
	if it.comma < 0 {
		changes = append(changes, change{before, before + 1, ""})
	}
	return changes
}

func isComment(s string) bool { return s == "" || s[0] == '#' }

// blankBefore tells that an empty line stands above the line of an offset.
func (l *layout) blankBefore(at int) bool {
	start := l.lineStart(at)
	return start > l.lines[0] && strings.TrimSpace(l.text[l.lineStart(start-1):start]) == ""
}

// fields are what a node says, each as one line of the file.
func fields(n Node) []string {
	var all []string
	if len(n.Addresses) == 1 {
		all = append(all, "address: "+addressText(n.Addresses[0]))
	} else {
		var list []string
		for _, a := range n.Addresses {
			list = append(list, addressText(a))
		}
		all = append(all, "addresses: ["+strings.Join(list, ", ")+"]")
	}
	all = append(all, fmt.Sprintf("priority: %d", n.Priority))
	if len(n.Devices) > 0 {
		var list []string
		for _, link := range slices.Sorted(maps.Keys(n.Devices)) {
			list = append(list, keyText(link)+": "+keyText(n.Devices[link]))
		}
		all = append(all, "devices: {"+strings.Join(list, ", ")+"}")
	}
	return all
}

func entryText(n Node) string { return "{" + strings.Join(fields(n), ", ") + "}" }

func addressText(a netip.Addr) string {
	if a.Is6() {
		return `"` + a.String() + `"` // a colon means something in {…}
	}
	return a.String()
}

var plainWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*$`)

// keyText is a word as a key or value, in quotes where YAML or a reader may take
// it for something else.
func keyText(s string) string {
	switch {
	case !plainWord.MatchString(s), contains([]string{"null", "true", "false", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(s)):
		return `"` + s + `"`
	}
	return s
}
