package manual

import (
	"fmt"
	"strings"
)

// Key is one key of the configuration file.
type Key struct {
	Path                  string // as uplinks[].probe.fall
	Text, Values, Example string
	Default               string // in words; empty: the key must be there, or nothing holds
	Required              bool
}

// File makes harouter.yaml(5); sample is a complete file.
func File(keys []Key, sample, version string) Page {
	r := begin("harouter.yaml", 5, version)
	r.section("name")
	fmt.Fprint(&r.b, "harouter.yaml \\- configuration of harouter(8)\n")
	r.section("description")
	r.text("The file /etc/harouter/harouter.yaml is YAML and the same on every router; what differs per router stands under nodes. harouter-check(8) tells every mistake in it with line and column; harouter-reload(8) takes a changed one into use, on all routers or on none.")
	r.text("A key that is left out has its default. Times have a unit: 100ms, 2s, 10m, 1h. In the paths below [] is an entry of a list, NAME a name of your own.")
	r.text("The secret is not in it: /etc/harouter/cluster.key holds 32 random bytes in base64 in one line, readable by its owner only; a second line is an older key that is still accepted.")
	r.section("keys")
	part := ""
	for _, k := range keys {
		first, _, _ := strings.Cut(strings.TrimSuffix(k.Path, "[]"), ".")
		if first = strings.TrimSuffix(first, "[]"); first != part {
			part = first
			r.subsection(part)
		}
		r.item(k.Path, k.Text)
		facts := "Allowed: " + k.Values + "."
		switch {
		case k.Required:
			facts += " Must be there."
		case k.Default != "":
			facts += " Default: " + k.Default + "."
		}
		facts += " Example: " + k.Example
		r.more(facts)
	}
	r.section("example")
	r.verbatim(sample)
	r.section("see also")
	fmt.Fprint(&r.b, "harouter(8), harouter\\-check(8), harouter\\-init(8)\n")
	return Page{Name: "harouter.yaml.5", Text: r.b.String()}
}
