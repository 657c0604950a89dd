package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A configuration may name files with lists of networks beside it. They are part
// of what the cluster agrees on: all of it travels, is hashed and is kept as one
// text, the configuration with its lists behind it. Each list begins with a NUL,
// which no configuration contains, its name and its length; without lists the
// text is the file itself.
const listMark = "\x00@"

// Pack joins a file and the lists that it names.
func Pack(file []byte, lists map[string][]byte) []byte {
	out := slices.Clone(file)
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		out = fmt.Appendf(out, "%s%s %d\n", listMark, name, len(lists[name]))
		out = append(out, lists[name]...)
	}
	return out
}

var errPack = errors.New("the lists behind the configuration are damaged")

// Unpack takes a text apart again. It is the only one that gives this text when
// packed, or there is an error.
func Unpack(text []byte) (file []byte, lists map[string][]byte, err error) {
	file, rest, found := bytes.Cut(text, []byte(listMark))
	if !found {
		return text, nil, nil
	}
	lists = map[string][]byte{}
	for last := ""; found; {
		var head []byte
		if head, rest, found = bytes.Cut(rest, []byte("\n")); !found {
			return nil, nil, errPack
		}
		name, number, _ := strings.Cut(string(head), " ")
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n > len(rest) || strconv.Itoa(n) != number || !listName(name) || name <= last {
			return nil, nil, errPack
		}
		lists[name], last = rest[:n:n], name
		if rest = rest[n:]; len(rest) == 0 {
			return file, lists, nil
		}
		if rest, found = bytes.CutPrefix(rest, []byte(listMark)); !found {
			return nil, nil, errPack
		}
	}
	return nil, nil, errPack
}

var listSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// listName tells whether a word can be the name of a file with networks. The
// secret beside the configuration must not travel, and neither file be written over.
func listName(s string) bool {
	end := strings.ToLower(filepath.Ext(s))
	return listSyntax.MatchString(s) && end != ".key" && end != ".yaml" && end != ".yml"
}

// namedLists are the lists that the policies of a file name. It finds them also in
// a file with mistakes.
func namedLists(file []byte) []string {
	src, problems := newSource("", file)
	if len(problems) > 0 {
		return nil
	}
	root, _ := parseTree(src)
	names := map[string]bool{}
	for _, policy := range root.under("policies").all() {
		match := policy.under("match")
		for _, key := range []string{"source", "destination"} {
			for _, term := range match.under(key).all() {
				if not := term.under("not"); not != nil {
					term = not
				}
				if name, ok := strings.CutPrefix(term.text, "@"); ok && term.kind == scalar && listName(name) {
					names[name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// under is the value of a key, nil if there is none.
func (v *value) under(key string) *value {
	if v == nil || v.kind != mapping {
		return nil
	}
	for _, e := range v.entries {
		if e.key.text == key {
			return e.value
		}
	}
	return nil
}

// all are the items of a list, or the value alone.
func (v *value) all() []*value {
	switch {
	case v == nil:
		return nil
	case v.kind == list:
		return v.items
	}
	return []*value{v}
}

// Lists are the files that a file names, with their directory.
func Lists(path string, file []byte) []string {
	var out []string
	for _, name := range namedLists(file) {
		out = append(out, filepath.Join(filepath.Dir(path), name))
	}
	return out
}

// readLists reads them. One that is not there is left out: Parse says so, with
// the place where it is named.
func readLists(path string, file []byte) (map[string][]byte, Problems) {
	lists := map[string][]byte{}
	var problems Problems
	for _, at := range Lists(path, file) {
		data, err := ReadFile(at, maxSize)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			if inner, ok := errors.AsType[*fs.PathError](err); ok {
				err = inner.Err
			}
			problems = append(problems, Problem{File: at, Text: "read the list of networks: " + err.Error()})
		default:
			lists[filepath.Base(at)] = data
		}
	}
	return lists, problems
}

// maxNetworks bounds one list.
const maxNetworks = 50000

// networks are those of a list: one in each line, # begins a comment.
func (d *decoder) networks(name string) ([]netip.Prefix, error) {
	if all, ok := d.known[name]; ok {
		return all, nil
	}
	data, ok := d.lists[name]
	if !ok {
		return nil, fmt.Errorf("there is no file %s beside this one; allowed: one with a network in each line", quote(name))
	}
	src, problems := newSource(filepath.Join(filepath.Dir(d.src.name), name), data)
	var all []netip.Prefix
	for i, line := range src.lines {
		text, _, _ := strings.Cut(string(line), "#")
		word := strings.TrimSpace(text)
		if word == "" || len(problems) > maxProblems {
			continue
		}
		p, err := network(&value{kind: scalar, text: word})
		switch {
		case err == nil && p.Addr().Is6():
			err = errIPv6
		case err == nil && len(all) == maxNetworks:
			err = fmt.Errorf("more than %d networks; allowed: at most that in one file", maxNetworks)
			word = ""
		}
		if err != nil {
			col := len([]rune(text[:strings.Index(text, word)])) + 1
			problems = append(problems, src.problem(Error, i+1, col, err.Error()))
			if word == "" {
				break
			}
			continue
		}
		all = append(all, p)
	}
	if len(all) == 0 && len(problems) == 0 {
		problems = append(problems, src.problem(Error, 1, 1, "no network stands here; allowed: one in each line, such as 10.0.0.0/8"))
	}
	d.listed = append(d.listed, problems...)
	if d.known == nil {
		d.known = map[string][]netip.Prefix{}
	}
	d.known[name] = all
	return all, nil
}
