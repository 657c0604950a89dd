package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
)

// decoder collects what is found while the tree is read.
type decoder struct {
	src      *source
	problems Problems
	facts    facts
	lists    map[string][]byte         // files beside this one, that came with it
	known    map[string][]netip.Prefix // of these, what was read
	listed   Problems                  // and what is wrong with them
	keys     *keys                     // nil unless somebody wants to know which there are
}

func (d *decoder) fail(v *value, format string, args ...any) { d.say(Error, v, format, args) }

func (d *decoder) warn(v *value, format string, args ...any) { d.say(Warning, v, format, args) }

func (d *decoder) say(s Severity, v *value, format string, args []any) {
	d.problems = append(d.problems, d.src.problem(s, v.line, v.col, fmt.Sprintf(format, args...)))
}

// badValue is an error of a part of a value, so that a list can tell which.
type badValue struct {
	v   *value
	err error
}

func (b *badValue) Error() string { return b.err.Error() }

// refuse reports what a parse function found.
func (d *decoder) refuse(v *value, path string, err error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			d.refuse(v, path, e)
		}
		return
	}
	if part, ok := errors.AsType[*badValue](err); ok {
		d.refuse(part.v, path, part.err)
		return
	}
	d.fail(v, "%s: %s", path, err)
}

// table is a map of the file while it is read. It remembers which keys were
// asked for: close refuses the others.
type table struct {
	d       *decoder
	at      *value // where a missing key is reported
	path    string
	entries []entry
	known   []string
	broken  bool // not a map at all: nothing more to say about it
}

// table looks at v as a map; v may be nil (an absent map is an empty one).
func (d *decoder) table(v, parent *value, path string) *table {
	t := &table{d: d, at: v, path: path}
	if v == nil || v.kind == null {
		if v == nil {
			t.at = parent
		}
		return t
	}
	if v.kind != mapping {
		d.fail(v, "%s: %s stands here; allowed: a map such as {key: value}", path, v.kind)
		t.broken = true
		return t
	}
	first := map[string]*value{}
	for _, e := range v.entries {
		if was := first[e.key.text]; was != nil {
			d.fail(e.key, "%s: the key %s stands twice (first in line %d); allowed: once", path, quote(e.key.text), was.line)
			continue
		}
		first[e.key.text] = e.key
		t.entries = append(t.entries, e)
	}
	return t
}

// close refuses the keys that nobody asked for.
func (t *table) close() {
	for _, e := range t.entries {
		if !contains(t.known, e.key.text) {
			t.d.fail(e.key, "%s: unknown key %s%s; allowed: %s", t.path, quote(e.key.text), cmp.Or(didYouMean(e.key.text, t.known), " (a newer harouter may know it)"), join(t.known))
		}
	}
}

// all gives every entry, for maps whose keys are names.
func (t *table) all() []entry {
	for _, e := range t.entries {
		t.known = append(t.known, e.key.text)
	}
	return t.entries
}

// sub is the map below a key.
func (t *table) sub(key string) *table {
	f := t.field(key)
	s := t.d.table(f.v, t.at, join2(t.path, key))
	s.broken = s.broken || t.broken
	return s
}

// maxRows is far beyond any real list of maps.
const maxRows = 1000

// rows reads a list of maps.
func (t *table) rows(key string, read func(row *table, place int)) field {
	f := t.field(key)
	if f.v == nil || f.v.kind == null {
		return f
	}
	if f.v.kind != list {
		t.d.fail(f.v, "%s: %s stands here; allowed: a list such as [{name: a}, {name: b}]", f.path(), f.v.kind)
		return f
	}
	for i, item := range f.v.items {
		if i == maxRows {
			t.d.fail(item, "%s: more than %d entries; allowed: at most that", f.path(), maxRows)
			break
		}
		row := t.d.table(item, item, fmt.Sprintf("%s[%d]", f.path(), i+1))
		if item.kind == null {
			t.d.fail(item, "%s: nothing stands here; allowed: a map such as {name: a}", row.path)
			continue
		}
		if !row.broken {
			read(row, i+1)
			row.close()
		}
	}
	f.changed = len(f.v.items) > 0
	return f
}

// field is one key of a table, after it was read.
type field struct {
	t       *table
	name    string
	key, v  *value // nil when the key is absent
	ok      bool   // was read without a problem
	changed bool   // differs from the default
	was     any    // the default
}

func (t *table) field(name string) field {
	t.known = append(t.known, name)
	f := field{t: t, name: name}
	t.d.keys.asked(f)
	for _, e := range t.entries {
		if e.key.text == name {
			f.key, f.v = e.key, e.value
		}
	}
	return f
}

func (f field) path() string { return join2(f.t.path, f.name) }

// at is where to point: at the key where the value is long.
func (f field) at() *value {
	switch {
	case f.v == nil:
		return f.t.at
	case f.v.kind == scalar:
		return f.v
	}
	return f.key
}

// take reads a key into dst, which holds the default beforehand.
func take[T any](t *table, name string, dst *T, parse func(*value) (T, error)) field {
	f := t.field(name)
	f.was = *dst
	t.d.keys.hasDefault(f)
	if f.v == nil {
		return f
	}
	if f.v.kind == null {
		t.d.fail(f.v, "%s: has no value; write one, or remove the key", f.path())
		return f
	}
	got, err := parse(f.v)
	if err != nil {
		t.d.refuse(f.v, f.path(), err)
		return f
	}
	f.ok, f.changed = true, !reflect.DeepEqual(*dst, got)
	*dst = got
	return f
}

// each reads a list whose items are looked at one by one: a bad one does not
// hide what is to say about the others.
func each[T any](t *table, name string, parse func(*value) (T, error), found func(*value, T)) field {
	f := t.field(name)
	switch {
	case f.v == nil:
		return f
	case f.v.kind == null:
		t.d.fail(f.v, "%s: has no value; write a list such as [a, b], or remove the key", f.path())
		return f
	case f.v.kind != list:
		t.d.fail(f.v, "%s: %s stands here; allowed: a list such as [a, b]", f.path(), f.v.kind)
		return f
	}
	f.ok, f.changed = true, len(f.v.items) > 0
	for _, item := range f.v.items {
		got, err := parse(item)
		if err != nil {
			t.d.refuse(item, f.path(), err)
			f.ok = false
			continue
		}
		found(item, got)
	}
	return f
}

// empty tells that a list stands there without an item.
func (f field) empty() bool { return f.ok && !f.changed }

// required refuses that the key is missing; allowed says what to write.
func (f field) required(allowed string) field {
	f.t.d.keys.isRequired(f)
	if f.v == nil && !f.t.broken {
		f.t.d.fail(f.t.at, "%s: the key %s is missing; allowed: %s", f.t.path, f.name, allowed)
	}
	return f
}
