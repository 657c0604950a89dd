package manual

import (
	"fmt"
	"regexp"
	"strings"
)

// Page is one manual page.
type Page struct {
	Name string // as harouter-run.8
	Text string // man(7)
}

// roff writes a page.
type roff struct{ b strings.Builder }

func begin(name string, section int, version string) *roff {
	r := &roff{}
	fmt.Fprintf(&r.b, ".TH %s %d \"\" %s \"harouter\"\n.nh\n.ad l\n", argument(strings.ToUpper(name)), section, argument("harouter "+version))
	return r
}

func (r *roff) section(title string) { fmt.Fprintf(&r.b, ".SH %s\n", argument(strings.ToUpper(title))) }

func (r *roff) subsection(title string) { fmt.Fprintf(&r.b, ".SS %s\n", argument(title)) }

// text writes a paragraph.
func (r *roff) text(s string) { fmt.Fprintf(&r.b, ".PP\n%s\n", escape(s)) }

// item writes a word in bold and what there is to say about it.
func (r *roff) item(word, text string) {
	fmt.Fprintf(&r.b, ".TP\n\\fB%s\\fR\n%s\n", escapeWord(word), escape(text))
}

// more is another paragraph of an item.
func (r *roff) more(text string) { fmt.Fprintf(&r.b, ".IP\n%s\n", escape(text)) }

// verbatim writes lines as they are.
func (r *roff) verbatim(s string) {
	fmt.Fprintf(&r.b, ".PP\n.RS 4\n.nf\n%s\n.fi\n.RE\n", escape(strings.TrimRight(s, "\n")))
}

// argument quotes a word for a request's line.
func argument(s string) string {
	return `"` + strings.ReplaceAll(escapeWord(strings.ReplaceAll(s, "\n", " ")), `"`, `\(dq`) + `"`
}

var leading = regexp.MustCompile(`(?m)^([.'])`)

// others are characters that a reader of man pages may not have.
var others = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "×", `\(mu`, "→", "\\->", "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

func escapeWord(s string) string { return others.Replace(s) }

// escape makes a text that no formatter takes for a request.
func escape(s string) string { return leading.ReplaceAllString(escapeWord(s), `\&$1`) }
