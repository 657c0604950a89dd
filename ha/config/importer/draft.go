package importer

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// entry is a line of the file to be, with what stands below it.
type entry struct {
	above   []string // lines of comment
	text    string
	note    string // behind the text
	from    place
	below   []*entry
	box     bool // nothing by itself
	must    bool // cannot be a comment, nor can what stands below it
	comment bool // is one from the start
	refused string
}

// draft is the whole file.
type draft struct {
	head, tail []string // comments
	entries    []*entry
}

func (e *entry) add(child *entry) *entry {
	e.below = append(e.below, child)
	return child
}

// out tells whether an entry is written as a comment.
func (e *entry) out() bool {
	if e.comment || e.refused != "" {
		return true
	}
	for _, b := range e.below {
		if !b.out() {
			return false
		}
	}
	return e.box
}

// lines is a text under construction, with the entry that each line is.
type lines struct {
	text  []string
	owner [][]*entry // an entry and those above it, the outermost first; nil: nobody's
}

func (l *lines) add(text string, owner []*entry) {
	l.text, l.owner = append(l.text, text), append(l.owner, owner)
}

func (d *draft) render() *lines {
	l := &lines{}
	for _, c := range d.head {
		l.add(remarkLine(c), nil)
	}
	for _, e := range d.entries {
		l.add("", nil)
		l.entry(e, 0, nil, false, false)
	}
	if len(d.tail) > 0 {
		l.add("", nil)
	}
	for _, c := range d.tail {
		l.add(remarkLine(c), nil)
	}
	return l
}

func remarkLine(s string) string { return strings.TrimRight("# "+printable(s), " ") }

// noteColumn is where notes stand, if the text leaves room.
const noteColumn = 44

// entry adds one with what stands below it. muted says that it is a comment because
// of one above it, told that the reason stands there.
func (l *lines) entry(e *entry, indent int, above []*entry, muted, told bool) {
	pad := strings.Repeat(" ", indent)
	chain := append(above[:len(above):len(above)], e)
	for _, c := range e.above {
		l.add(pad+remarkLine(c), nil)
	}
	if e.refused != "" && !told {
		l.add(pad+remarkLine(e.refused+":"), nil)
	}
	muted, told = muted || e.out(), told || e.refused != ""
	text := pad + e.text
	if muted {
		text, chain = pad+"# "+e.text, nil
	}
	if e.note != "" {
		text = fmt.Sprintf("%-*s  # %s", noteColumn-1, text, printable(e.note))
	}
	l.add(text, chain)
	for _, b := range e.below {
		l.entry(b, indent+2, chain, muted, told)
	}
}

func (l *lines) bytes() []byte { return []byte(strings.Join(l.text, "\n") + "\n") }

// settle tries the draft until what is left is taken, and gives its text. Each
// turn makes at least one entry a comment, so there is an end. What cannot be one
// is an error.
func (d *draft) settle(im *importer, try parse) []byte {
	for {
		l := d.render()
		text := l.bytes()
		_, problems := try("the imported file", text)
		errs := problems.Errors()
		if len(errs) == 0 {
			return text
		}
		moved := false
		for _, p := range errs {
			var chain []*entry
			if p.Line > 0 && p.Line <= len(l.owner) {
				chain = l.owner[p.Line-1]
			}
			moved = im.refuse(chain, p.Text) || moved
		}
		if !moved {
			return nil
		}
	}
}

// refuse makes an entry a comment. It tells whether something changed.
func (im *importer) refuse(chain []*entry, why string) bool {
	if len(chain) == 0 || chain[0].must {
		im.fail(place{}, "%s", why)
		return false
	}
	e := chain[len(chain)-1]
	if e.refused != "" {
		return true // by an earlier problem of the same turn
	}
	im.warn(e.from, "%s: it is written as a comment", why)
	e.refused = why
	return true
}

// came says where a value came from.
func came(at place, more string) string {
	switch {
	case at.sheet == nil:
		return more
	case more == "":
		return at.String()
	case strings.HasPrefix(more, ";"):
		return at.String() + more
	}
	return at.String() + ", " + more
}

var plainWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*$`)

// plain is a word as YAML has it, in quotes where it could be something else.
func plain(s string) string {
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		return text(s)
	}
	if !plainWord.MatchString(s) {
		return text(s)
	}
	return s
}

// text is a text in quotes.
func text(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(printable(s)) + `"`
}

func addressText(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	return text(a.String())
}

// cut splits key: value.
func cut(s string) (key, value string, ok bool) { return strings.Cut(s, ": ") }
