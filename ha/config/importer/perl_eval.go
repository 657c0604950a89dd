package importer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// A Perl rule file gets the balancer as $B and calls its methods. Read are calls
// with constants, scalar variables that are given a constant, loops over lists and
// over the services, and the address and device of a service. Everything else is
// told with its place: it is never run, and never guessed.

// val is a value: a text, or a list in brackets.
type val struct {
	text  string
	list  []val
	isRef bool
	undef bool
}

// perl is the state of one file.
type perl struct {
	im       *importer
	src      string
	vars     map[string]string
	at       place // of the call that is being made
	line     string
	deleting bool
	other    bool // a firewall_op that is not understood
	turns    int  // of loops
	steps    int  // tokens that were gone through
}

const (
	maxTurns = 1000
	maxSteps = 2_000_000
	maxNest  = 20
)

var errPerl = errors.New("more Perl than is read here")

func (im *importer) readPerl(s *sheet) {
	all, src := tokens(s)
	p := &perl{im: im, src: src, vars: map[string]string{}}
	p.block(statements(all, src))
}

const perlInstead = "write what it does into this file by hand: policies, firewall, routes, or a script in hooks/post-apply.d"

// block goes through statements.
func (p *perl) block(list []statement) {
	for i, st := range list {
		first := st.tokens[0]
		if st.leaves() {
			if len(list) > i+1 || first.kind != name || !leaving[first.text] {
				p.im.later(first.at, st.text, "what stands behind it in the file runs only at times; "+perlInstead)
			}
			return
		}
		// A block runs once on trial, so that it is taken as a whole or not at all.
		before := p.im.mark()
		vars, deleting, other := maps.Clone(p.vars), p.deleting, p.other
		if err := p.statement(st, 0); err != nil {
			p.im.rewind(before)
			p.vars, p.deleting, p.other = vars, deleting, other
			p.forget(st)
			p.im.later(first.at, st.text, fmt.Sprintf("%s; %s", err, perlInstead))
		}
	}
}

var leaving = map[string]bool{"return": true, "exit": true, "last": true, "next": true, "goto": true}

// leaves tells of a statement that may end the file early.
func (st statement) leaves() bool {
	return st.tokens[0].text != "sub" && slices.ContainsFunc(st.tokens, func(t token) bool { return t.kind == name && leaving[t.text] })
}

// forget drops the variables that a statement which was not read may have changed.
func (p *perl) forget(st statement) {
	for _, t := range st.tokens {
		if t.kind == scalar {
			delete(p.vars, t.text)
		}
	}
}

// statement carries one out, or is an error that says what it does not read.
func (p *perl) statement(st statement, depth int) error {
	t := st.tokens
	first := t[0]
	p.steps += len(t)
	switch {
	case depth > maxNest:
		return errors.New("blocks nested too deep")
	case p.steps > maxSteps:
		return errors.New("more loops than can be meant")
	case first.kind == name && (first.text == "use" || first.text == "no" || first.text == "package"), first.kind == number && len(t) == 1:
		return nil
	case first.kind == name && first.text == "our" && len(t) == 2 && t[1].kind == scalar:
		return nil
	case first.kind == name && (first.text == "for" || first.text == "foreach"):
		return p.loop(st, depth)
	case first.is("{") && t[len(t)-1].is("}"):
		return p.inner(t[1:len(t)-1], depth)
	case first.kind == name && (first.text == "my" || first.text == "our") && len(t) > 1 && t[1].kind == scalar:
		return p.assign(t[1:])
	case first.kind == scalar && len(t) > 1 && t[1].is("="):
		return p.assign(t)
	case first.kind == scalar && first.text == "B" && len(t) > 2 && t[1].is("->") && t[2].kind == name:
		return p.modified(st)
	case first.kind == name && (first.text == "print" || first.text == "warn"):
		p.im.needless(first.at, st.text, "it only prints")
		return nil
	}
	return errPerl
}

// inner runs the statements of a block: all of them or none. Variables that it
// makes with my end with it.
func (p *perl) inner(t []token, depth int) error {
	all := statements(t, p.src)
	for _, st := range all {
		if len(st.tokens) > 1 && st.tokens[0].text == "my" && st.tokens[1].kind == scalar {
			x := st.tokens[1].text
			was, had := p.vars[x]
			defer func() {
				if delete(p.vars, x); had {
					p.vars[x] = was
				}
			}()
		}
	}
	for _, st := range all {
		if err := p.statement(st, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (p *perl) assign(t []token) error {
	if len(t) < 3 || !t[1].is("=") || t[0].text == "B" || t[0].text == "_" {
		return errPerl
	}
	r := &reader{p: p, t: t[2:]}
	list, err := r.list()
	if err != nil || !r.end() {
		return errPerl
	}
	if len(list) != 1 || list[0].isRef || list[0].undef {
		return errPerl
	}
	p.vars[t[0].text] = list[0].text
	return nil
}

// loop is for my $x (…) { … }.
func (p *perl) loop(st statement, depth int) error {
	t := st.tokens[1:]
	v := "_"
	if len(t) > 0 && t[0].kind == name && (t[0].text == "my" || t[0].text == "our") {
		t = t[1:]
	}
	if len(t) > 0 && t[0].kind == scalar {
		v, t = t[0].text, t[1:]
	}
	open := slices.IndexFunc(t, func(k token) bool { return k.is("{") })
	if v == "B" || open < 2 || !t[0].is("(") || !t[open-1].is(")") || !t[len(t)-1].is("}") {
		return errors.New("a loop that is not read here")
	}
	r := &reader{p: p, t: t[1 : open-1]}
	over, err := r.list()
	if err != nil || !r.end() {
		return errors.New("a loop over what is not read here")
	}
	return p.over(v, over, func() error { return p.inner(t[open+1:len(t)-1], depth) })
}

// over runs do with a variable set to each of the values in turn.
func (p *perl) over(v string, values []val, do func() error) error {
	was, had := p.vars[v]
	defer func() {
		if had {
			p.vars[v] = was
		} else {
			delete(p.vars, v)
		}
	}()
	for _, x := range values {
		if p.turns++; p.turns > maxTurns {
			return errors.New("too many turns of a loop")
		}
		if x.isRef || x.undef {
			return errPerl
		}
		p.vars[v] = x.text
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// modified is $B->METHOD(…), perhaps with foreach LIST behind it.
func (p *perl) modified(st statement) error {
	t := st.tokens
	method, rest := t[2], t[3:]
	args := []token(nil)
	if len(rest) > 0 && rest[0].is("(") {
		end := match(rest)
		if end < 0 {
			return errPerl
		}
		args, rest = rest[1:end], rest[end+1:]
	}
	once := func() error {
		r := &reader{p: p, t: args}
		list, err := r.list()
		if err != nil {
			return err
		}
		if !r.end() {
			return errPerl
		}
		p.at, p.line = t[0].at, st.text
		return p.call(method.text, list)
	}
	if len(rest) == 0 {
		return once()
	}
	if k := rest[0]; k.kind != name || k.text != "foreach" && k.text != "for" {
		return errPerl
	}
	r := &reader{p: p, t: rest[1:]}
	over, err := r.list()
	if err != nil || !r.end() {
		return errors.New("a loop over what is not read here")
	}
	return p.over("_", over, once)
}

// match is the place of the bracket that closes the first one, -1 for none.
func match(t []token) int {
	depth := 0
	for i, k := range t {
		switch {
		case k.is("(") || k.is("[") || k.is("{"):
			depth++
		case k.is(")") || k.is("]") || k.is("}"):
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// reader reads expressions.
type reader struct {
	p     *perl
	t     []token
	depth int
}

func (r *reader) end() bool { return len(r.t) == 0 }

func (r *reader) peek(text string) bool { return len(r.t) > 0 && r.t[0].is(text) }

func (r *reader) eat(text string) bool {
	ok := r.peek(text)
	if ok {
		r.t = r.t[1:]
	}
	return ok
}

// list reads values with commas between them.
func (r *reader) list() (out []val, err error) {
	if r.depth++; r.depth > maxNest {
		return nil, errPerl
	}
	defer func() { r.depth-- }()
	for !r.end() && !r.peek(")") && !r.peek("]") && !r.peek("}") {
		v, err := r.term()
		if err != nil {
			return nil, err
		}
		for r.eat(".") {
			w, err := r.term()
			if err != nil || len(v) != 1 || len(w) != 1 || v[0].isRef || w[0].isRef {
				return nil, errPerl
			}
			v = []val{{text: v[0].text + w[0].text}}
		}
		out = append(out, v...)
		if !r.eat(",") && !r.eat("=>") {
			break
		}
	}
	return out, nil
}

func one(s string) []val { return []val{{text: s}} }

func (r *reader) term() ([]val, error) {
	if r.end() {
		return nil, errPerl
	}
	t := r.t[0]
	r.t = r.t[1:]
	switch t.kind {
	case literal:
		return one(t.text), nil
	case number: // no octal number, and none such as 192.168.1.1
		if t.text != "0" && t.text[0] == '0' || strings.Count(t.text, ".") > 1 || strings.ContainsFunc(t.text, unicode.IsLetter) {
			return nil, errPerl
		}
		return one(t.text), nil
	case woven:
		s, err := r.p.weave(t.text)
		return one(s), err
	case words:
		var out []val
		for _, w := range strings.Fields(t.text) {
			out = append(out, val{text: w})
		}
		return out, nil
	case scalar:
		return r.variable(t)
	case name:
		return r.word(t)
	case sign:
		return r.bracket(t)
	}
	return nil, errPerl
}

func (r *reader) bracket(t token) ([]val, error) {
	switch t.text {
	case "(", "[":
		list, err := r.list()
		if err != nil {
			return nil, err
		}
		if t.text == "(" {
			if !r.eat(")") {
				return nil, errPerl
			}
			return list, nil
		}
		if !r.eat("]") {
			return nil, errPerl
		}
		return []val{{list: list, isRef: true}}, nil
	case "-":
		// -dport is a text, but -d alone looks for a directory.
		if !r.end() && r.t[0].kind == name && (len(r.t[0].text) > 1 || len(r.t) > 1 && r.t[1].is("=>")) {
			s := "-" + r.t[0].text
			r.t = r.t[1:]
			return one(s), nil
		}
	}
	return nil, errPerl
}

// word is a name: a text before =>, undef, or map {…} list.
func (r *reader) word(t token) ([]val, error) {
	switch {
	case r.peek("=>"):
		return one(t.text), nil
	case t.text == "undef":
		return []val{{undef: true}}, nil
	case t.text == "map" && r.peek("{"):
		end := match(r.t)
		if end < 0 {
			return nil, errPerl
		}
		body := r.t[1:end]
		r.t = r.t[end+1:]
		r.eat(",")
		over, err := r.list()
		if err != nil {
			return nil, err
		}
		var out []val
		err = r.p.over("_", over, func() error {
			in := &reader{p: r.p, t: body, depth: r.depth}
			list, err := in.list()
			if err == nil && !in.end() {
				err = errPerl
			}
			out = append(out, list...)
			return err
		})
		return out, err
	}
	return nil, errPerl
}

// variable is $x, or what $B says about a service.
func (r *reader) variable(t token) ([]val, error) {
	if t.text != "B" {
		s, ok := r.p.vars[t.text]
		if !ok {
			return nil, fmt.Errorf("the variable $%s", t.text)
		}
		return one(s), nil
	}
	if !r.eat("->") || r.end() || r.t[0].kind != name {
		return nil, errPerl
	}
	method := r.t[0].text
	r.t = r.t[1:]
	var args []val
	if r.eat("(") {
		var err error
		if args, err = r.list(); err != nil {
			return nil, err
		}
		if !r.eat(")") {
			return nil, errPerl
		}
	}
	return r.p.ask(method, args)
}

// weave replaces the variables in "text".
func (p *perl) weave(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '\x00' || c == '@':
			return "", errPerl
		case c == '$':
			rest, braces := s[i+1:], false
			if strings.HasPrefix(rest, "{") {
				rest, braces = rest[1:], true
			}
			n := wordLength(rest)
			v, ok := p.vars[rest[:n]]
			switch {
			case !ok:
				return "", fmt.Errorf("the variable $%s", rest[:n])
			case braces && !strings.HasPrefix(rest[n:], "}"):
				return "", errPerl
			case !braces && (strings.HasPrefix(rest[n:], "[") || strings.HasPrefix(rest[n:], "->") || strings.HasPrefix(rest[n:], "{")):
				return "", errPerl
			}
			b.WriteString(v)
			i += 1 + n
			if braces {
				i += 2
			}
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), nil
}
