package importer

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// kind is what a token of a Perl file is.
type kind uint8

// A sign is one of Perl's operators; odd is what this does not read.
const (
	sign kind = iota
	name
	number
	literal // 'text'
	woven   // "text", in which variables are replaced
	scalar  // $x
	words   // qw(a b)
	odd
)

// token is one of a Perl file; text is without quotes and $.
type token struct {
	kind kind
	text string
	at   place
	from int // bytes of the file
	to   int
}

func (t token) is(text string) bool { return t.kind == sign && t.text == text }

// lexer splits a Perl file. It knows little of Perl: what it does not know is an
// odd token, and the statement around it is not read.
type lexer struct {
	sheet *sheet
	src   string
	pos   int
	line  int // of pos
	start int // of that line
	col   int // of pos in that line, in characters, from 0
	out   []token
	here  []string // ends of the texts <<END that begin with the next line
}

// tokens splits the file.
func tokens(s *sheet) ([]token, string) {
	l := &lexer{sheet: s, src: strings.Join(s.lines, "\n"), line: 1}
	for l.pos < len(l.src) {
		l.next()
	}
	return l.out, l.src
}

// take makes a token of the next n bytes.
func (l *lexer) take(k kind, text string, n int) {
	l.out = append(l.out, token{k, text, place{l.sheet, l.line, l.col + 1}, l.pos, l.pos + n})
	l.skip(n)
}

func (l *lexer) skip(n int) {
	for range n {
		switch c := l.src[l.pos]; {
		case c == '\n':
			l.line, l.start, l.col = l.line+1, l.pos+1, 0
		case utf8.RuneStart(c):
			l.col++
		}
		l.pos++
	}
}

func isLetter(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// wordLength is the length of a run of letters and digits.
func wordLength(s string) int {
	n := 0
	for n < len(s) && (isLetter(s[n]) || isDigit(s[n])) {
		n++
	}
	return n
}

func (l *lexer) next() {
	rest := l.src[l.pos:]
	c := rest[0]
	switch {
	case c == '=' && l.pos == l.start && len(rest) > 1 && isLetter(rest[1]): // documentation
		end := strings.Index(rest, "\n=cut")
		if end < 0 {
			l.skip(len(rest))
			return
		}
		l.skip(end + len("\n=cut"))
		l.comment()
	case c == '\n' && len(l.here) > 0:
		l.skip(1)
		l.heredoc()
	case strings.ContainsRune(" \t\r\n", rune(c)):
		l.skip(1)
	case c == '#':
		l.comment()
	case strings.HasPrefix(rest, "__END__"), strings.HasPrefix(rest, "__DATA__"):
		l.skip(len(rest))
	case c == '\'' || c == '"':
		l.quoted(c)
	case isDigit(c):
		n := wordLength(rest)
		for n+1 < len(rest) && rest[n] == '.' && isDigit(rest[n+1]) {
			n += 1 + wordLength(rest[n+1:])
		}
		l.take(number, strings.ReplaceAll(rest[:n], "_", ""), n)
	case c == '$' && len(rest) > 1 && isLetter(rest[1]):
		n := 1 + wordLength(rest[1:])
		l.take(scalar, rest[1:n], n)
	case isLetter(c):
		l.word(rest)
	case strings.HasPrefix(rest, "=>"), strings.HasPrefix(rest, "->"):
		l.take(sign, rest[:2], 2)
	case hereStart.MatchString(rest):
		m := hereStart.FindStringSubmatch(rest)
		l.here = append(l.here, m[1]+m[2])
		l.take(odd, "<<", len(m[0]))
	case c == '/', strings.HasPrefix(rest, "=~"), strings.HasPrefix(rest, "!~"):
		l.oddLine()
	case c == '$' || c == '@' || c == '%' || c == '&': // such as $' and $#x
		_, n := utf8.DecodeRuneInString(rest[1:])
		l.take(odd, rest[:1], 1+n)
	case strings.ContainsRune("()[]{};,.=-", rune(c)):
		l.take(sign, rest[:1], 1)
	default:
		_, n := utf8.DecodeRuneInString(rest)
		l.take(odd, rest[:n], n)
	}
}

var hereStart = regexp.MustCompile(`^<<~?(?:["']([^"'\n]*)["']|([A-Za-z_]\w*))`)

// heredoc skips the texts that begin here.
func (l *lexer) heredoc() {
	for _, end := range l.here {
		for l.pos < len(l.src) {
			line, _, _ := strings.Cut(l.src[l.pos:], "\n")
			l.skip(min(len(line)+1, len(l.src)-l.pos))
			if strings.TrimSpace(line) == end {
				break
			}
		}
	}
	l.here = nil
}

// oddLine takes the rest of a line, which has a pattern in it: where that ends, and
// what a quote in it means, is more than this knows.
func (l *lexer) oddLine() {
	line, _, _ := strings.Cut(l.src[l.pos:], "\n")
	line = strings.TrimRight(line, "; \t\r")
	l.take(odd, line, max(len(line), 1))
}

func (l *lexer) comment() {
	n := strings.IndexByte(l.src[l.pos:], '\n')
	if n < 0 {
		n = len(l.src) - l.pos
	}
	l.skip(n)
}

// quoted takes '…' or "…". A text over several lines counts as well.
func (l *lexer) quoted(q byte) {
	rest := l.src[l.pos:]
	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == q:
			k := literal
			if q == '"' {
				k = woven
			}
			l.take(k, b.String(), i+1)
			return
		case c == '\\' && i+1 < len(rest):
			i++
			if q == '"' && rest[i] != '"' && rest[i] != '\\' {
				b.WriteByte('\x00') // an escape that is not understood
			}
			if q == '\'' && rest[i] != '\'' && rest[i] != '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(rest[i])
		default:
			b.WriteByte(c)
		}
	}
	l.take(odd, rest[:1], len(rest))
}

var closing = map[byte]byte{'(': ')', '[': ']', '{': '}', '<': '>', '/': '/', '|': '|', '!': '!'}

// word takes a name, or a list of words qw(a b), or q(a).
func (l *lexer) word(rest string) {
	n := wordLength(rest)
	for strings.HasPrefix(rest[n:], "::") {
		n += 2 + wordLength(rest[n+2:])
	}
	text := rest[:n]
	if text == "qw" || text == "q" {
		open := n + len(rest[n:]) - len(strings.TrimLeft(rest[n:], " \t"))
		if open < len(rest) && closing[rest[open]] != 0 && !strings.HasPrefix(rest[open:], "=>") {
			if end := strings.IndexByte(rest[open+1:], closing[rest[open]]); end >= 0 {
				k := literal
				if text == "qw" {
					k = words
				}
				l.take(k, rest[open+1:open+1+end], open+end+2)
				return
			}
		}
	}
	next := strings.TrimLeft(rest[n:], " \t")
	if patterns[text] && next != "" && !strings.HasPrefix(next, "=>") && !strings.ContainsRune(",;)\n\r", rune(next[0])) {
		l.oddLine()
		return
	}
	l.take(name, text, n)
}

// patterns are the words that quote in ways of their own.
var patterns = map[string]bool{"qq": true, "qx": true, "qr": true, "m": true, "s": true, "tr": true, "y": true}

// statement is a run of tokens up to its semicolon, or a block with what stands
// before it.
type statement struct {
	tokens []token
	text   string
}

var blockWords = map[string]bool{
	"if": true, "unless": true, "for": true, "foreach": true, "while": true, "until": true, "sub": true, "else": true, "elsif": true, "BEGIN": true, "END": true,
}

// statements splits tokens; the semicolons are left out.
func statements(all []token, src string) (out []statement) {
	depth, from := 0, 0
	add := func(to int) {
		if to > from {
			part := all[from:to]
			out = append(out, statement{part, src[part[0].from:part[len(part)-1].to]})
		}
	}
	for i, t := range all {
		switch {
		case t.is("(") || t.is("[") || t.is("{"):
			depth++
		case t.is(")") || t.is("]") || t.is("}"):
			depth = max(depth-1, 0)
			first := all[from]
			if depth == 0 && t.is("}") && (first.is("{") || first.kind == name && blockWords[first.text]) {
				add(i + 1)
				from = i + 1
			}
		case t.is(";") && depth == 0:
			add(i)
			from = i + 1
		}
	}
	add(len(all))
	return out
}
