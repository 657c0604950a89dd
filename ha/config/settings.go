package config

import (
	"regexp"
	"slices"
)

// Setting is one key of the file, for its manual.
type Setting struct {
	Path     string // as uplinks[].probe.fall or nodes.NAME.address
	Default  string // as the file would write it; empty: none, nothing set
	Required bool
	Words
}

// Words are what a person has to say about a key.
type Words struct {
	Text    string // one or two sentences
	Values  string // what may stand there
	Example string // the value, as in the file
	Usually string // the default, where it is no fixed value
}

// Settings lists every key of the file in the order in which it is read. The
// reading code itself says which there are and what their defaults are; manual.go
// adds the rest.
func Settings() []Setting {
	src, problems := newSource("every key", []byte(everyKey))
	if len(problems) > 0 {
		return nil
	}
	root, problems := parseTree(src)
	if len(problems) > 0 {
		return nil
	}
	d := &decoder{src: src, keys: &keys{}}
	d.file(root)
	for i, k := range d.keys.all {
		d.keys.all[i].Words = words[k.Path]
	}
	return d.keys.all
}

// keys notes what the reading code asks for. A nil one notes nothing.
type keys struct{ all []Setting }

var names = regexp.MustCompile(`^(lans|uplinks|policies|routes|firewall\.allow|firewall\.forward)(\[\d+\]|\.[^.]+)`)
var (
	nodeName = regexp.MustCompile(`^nodes\.[^.]+`)
	logPart  = regexp.MustCompile(`^log\.parts\..+`)
)

// at is the entry of a field.
func (k *keys) at(f field) *Setting {
	path := names.ReplaceAllString(f.path(), "$1[]")
	path = nodeName.ReplaceAllString(path, "nodes.NAME")
	path = logPart.ReplaceAllString(path, "log.parts.PART")
	i := slices.IndexFunc(k.all, func(have Setting) bool { return have.Path == path })
	if i < 0 {
		k.all = append(k.all, Setting{Path: path})
		i = len(k.all) - 1
	}
	return &k.all[i]
}

func (k *keys) asked(f field) {
	if k != nil {
		k.at(f)
	}
}

func (k *keys) hasDefault(f field) {
	if k == nil {
		return
	}
	if key := k.at(f); key.Default == "" {
		key.Default = show(f.was)
	}
}

func (k *keys) isRequired(f field) {
	if k != nil {
		k.at(f).Required = true
	}
}
