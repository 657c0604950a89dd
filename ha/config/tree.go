package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

type kind uint8

const (
	null kind = iota // written, but without a value
	scalar
	list
	mapping
)

func (k kind) String() string {
	return [...]string{"nothing", "one value", "a list", "a map"}[k]
}

// value is one thing of the file with its position. Scalars keep the text as it
// was written: what it means is the decoder's matter, not YAML's.
type value struct {
	kind      kind
	line, col int
	text      string
	quoted    bool
	items     []*value
	entries   []entry
}

type entry struct{ key, value *value }

// The YAML library recurses, and keeps a path for each level: bound both.
const (
	maxDepth  = 20
	maxTokens = 50_000
)

// parseTree reads YAML. What it refuses comes back as problems, with a nil tree.
func parseTree(src *source) (root *value, problems Problems) {
	b := &builder{src: src, seen: map[*token.Token]bool{}}
	defer func() {
		if r := recover(); r != nil { // of the library
			b.problems = nil
			b.fail(nil, "not valid YAML (the parser gave up: %v)", r)
		}
		if problems = b.problems; len(problems) > 0 {
			root = nil
		}
	}()
	tokens := lexer.Tokenize(src.text())
	if !b.bounded(tokens) {
		return nil, nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		b.syntax(err)
		return nil, nil
	}
	root = b.document(file)
	b.complete(tokens)
	return root, nil
}

type builder struct {
	src      *source
	problems Problems
	seen     map[*token.Token]bool
}

func (b *builder) fail(tk *token.Token, format string, args ...any) {
	line, col := b.position(tk)
	b.problems = append(b.problems, b.src.problem(Error, line, col, fmt.Sprintf(format, args...)))
}

func (b *builder) position(tk *token.Token) (line, col int) {
	if tk == nil || tk.Position == nil {
		return 1, 1
	}
	line, col = b.src.inside(tk.Position.Line, tk.Position.Column)
	// The library counts blanks behind a plain scalar into its column.
	text, word := b.src.lines[line-1], []rune(tk.Value)
	if tk.Type == token.SingleQuoteType || tk.Type == token.DoubleQuoteType || len(word) == 0 {
		return line, col
	}
	for at := min(col-1, len(text)-len(word)); at >= 0; at-- {
		if slices.Equal(text[at:at+len(word)], word) {
			return line, at + 1
		}
	}
	return line, col
}

func (b *builder) syntax(err error) {
	var known yaml.Error
	if !errors.As(err, &known) {
		b.fail(nil, "not valid YAML")
		return
	}
	text := strings.ReplaceAll(known.GetMessage(), "\t", `\t`)
	b.fail(known.GetToken(), "not valid YAML: %s", text)
}

// bounded refuses what would cost the parser too much.
func (b *builder) bounded(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		b.fail(tokens[maxTokens], "the file is too long; allowed: %d keys and values in it", maxTokens)
		return false
	}
	flow, run := 0, 0
	for _, tk := range tokens {
		switch tk.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow = max(flow-1, 0)
		}
		switch tk.Type {
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType, token.AliasType, token.DirectiveType:
			run++
		default:
			run = 0
		}
		if flow > maxDepth || (run > maxDepth && tk.Prev != nil && tk.Prev.Position.Line == tk.Position.Line) {
			b.fail(tk, "nested too deep; allowed: %d levels", maxDepth)
			return false
		}
	}
	return true
}

func (b *builder) document(file *ast.File) *value {
	var root *value
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if root != nil {
			b.fail(doc.Body.GetToken(), "a second YAML document; allowed: one in a file (remove the line ---)")
			return nil
		}
		root = b.value(doc.Body, 0)
	}
	return root
}

// value converts a node. Anchors, aliases, merge keys and tags are refused: the
// file is short, and is edited by machine too (`join` adds nodes).
func (b *builder) value(n ast.Node, depth int) *value {
	if n == nil {
		return &value{kind: null, line: 1, col: 1}
	}
	tk := n.GetToken()
	b.seen[tk] = true
	v := &value{}
	v.line, v.col = b.position(tk)
	if depth > maxDepth {
		b.fail(tk, "nested too deep; allowed: %d levels", maxDepth)
		return v
	}
	switch n := n.(type) {
	case *ast.NullNode:
	case *ast.StringNode:
		v.kind, v.text = scalar, n.Value
		v.quoted = tk.Type == token.SingleQuoteType || tk.Type == token.DoubleQuoteType
	case *ast.LiteralNode:
		b.seen[n.Value.GetToken()] = true
		v.kind, v.text, v.quoted = scalar, n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		v.kind, v.text = scalar, tk.Value
	case *ast.SequenceNode:
		v.kind = list
		for _, item := range n.Values {
			v.items = append(v.items, b.rejoin(b.value(item, depth+1)))
		}
	case *ast.MappingNode:
		v.kind = mapping
		for _, e := range n.Values {
			b.entry(v, e, depth)
		}
	case *ast.MappingValueNode:
		v.kind = mapping
		b.entry(v, n, depth)
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		b.fail(tk, "anchors, aliases and merge keys are not understood; write the value out")
	case *ast.TagNode:
		b.fail(tk, "the tag %s is not understood; write the value without it", tk.Value)
	default:
		b.fail(tk, "this is not understood; allowed: key: value, [a, b] and {key: value}")
	}
	return v
}

// rejoin mends [fd00::1] within {…}, which the library takes for a map: without
// a blank behind it a colon belongs to the text.
func (b *builder) rejoin(v *value) *value {
	if v.kind != mapping || len(v.entries) != 1 {
		return v
	}
	key, val := v.entries[0].key, v.entries[0].value
	if key.quoted || val.quoted || val.kind != scalar || val.line != key.line {
		return v
	}
	whole := key.text + ":" + val.text
	if !strings.HasPrefix(string(b.src.lines[key.line-1][key.col-1:]), whole) {
		return v
	}
	return &value{kind: scalar, line: key.line, col: key.col, text: whole}
}

func (b *builder) entry(m *value, e *ast.MappingValueNode, depth int) {
	key := b.value(e.Key, depth+1)
	if key.kind != scalar {
		key.kind, key.text = scalar, e.Key.GetToken().Value // null: or ~: as a key
	}
	// A map in block style has no sign of its own: it starts at its first key.
	if len(m.entries) == 0 && (key.line < m.line || key.line == m.line && key.col < m.col) {
		m.line, m.col = key.line, key.col
	}
	val := b.value(e.Value, depth+1)
	if val.kind == null {
		val.line, val.col = key.line, key.col
	}
	m.entries = append(m.entries, entry{key: key, value: val})
}

// complete makes sure that nothing of the file was dropped on the way: the
// library forgives some stray text.
func (b *builder) complete(tokens token.Tokens) {
	if len(b.problems) > 0 {
		return
	}
	for _, tk := range tokens {
		switch tk.Type {
		case token.StringType, token.SingleQuoteType, token.DoubleQuoteType, token.IntegerType, token.BinaryIntegerType,
			token.OctetIntegerType, token.HexIntegerType, token.FloatType, token.BoolType, token.InfinityType, token.NanType:
			if !b.seen[tk] {
				b.fail(tk, "not valid YAML: this text belongs to nothing")
			}
		}
	}
}
