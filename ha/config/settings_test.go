package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestManualHasEveryKey compares the words for people with what the reading
// code asks for. Who adds a key adds its words to manual.go.
func TestManualHasEveryKey(t *testing.T) {
	read := map[string]Setting{}
	for _, s := range Settings() {
		read[s.Path] = s
		w, ok := words[s.Path]
		switch {
		case !ok:
			t.Errorf("manual.go says nothing of the key %s", s.Path)
			continue
		case w.Text == "" || w.Values == "" || w.Example == "":
			t.Errorf("manual.go: %s lacks text, values or example", s.Path)
		case s.Default == "" && w.Usually == "" && !s.Required && !optional(s):
			t.Errorf("manual.go: %s has no fixed default; say in Usually what holds without it", s.Path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(words)) {
		if _, ok := read[path]; !ok {
			t.Errorf("manual.go speaks of %s, which no file has", path)
		}
	}
	if len(read) < 100 {
		t.Fatalf("only %d keys: everyKey is not read", len(read))
	}
}

// optional are keys whose absence needs no word: maps that only hold others, and
// what stands in rows of the firewall and of routes.
func optional(s Setting) bool {
	return s.Values == aMap || strings.HasPrefix(s.Path, "firewall.") || strings.HasPrefix(s.Path, "routes[]")
}

// TestEveryListHasARow: a list of maps that everyKey leaves out would hide its
// keys from the manual.
func TestEveryListHasARow(t *testing.T) {
	src, _ := newSource("x", []byte(everyKey))
	root, _ := parseTree(src)
	d := &decoder{src: src}
	var look func(path string, v reflect.Value)
	look = func(path string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() {
					look(path+"."+f.Name, v.Field(i))
				}
			}
		case reflect.Slice:
			of := v.Type().Elem()
			if of.Kind() != reflect.Struct || of.PkgPath() != reflect.TypeFor[Config]().PkgPath() ||
				strings.HasPrefix(of.Name(), "Term[") || of == reflect.TypeFor[PortRange]() || of == reflect.TypeFor[Target]() {
				return
			}
			if v.Len() == 0 {
				t.Errorf("everyKey in manual.go has no entry for %s", path)
				return
			}
			look(path, v.Index(0))
		}
	}
	look("Config", reflect.ValueOf(*d.file(root)))
}

// TestManualIsTrue tries each example, and the values that can be tried: both
// ends of a range, what is beyond the ends, every word of a choice.
func TestManualIsTrue(t *testing.T) {
	ends := regexp.MustCompile(`^(\S+) to (\S+)$`)
	for _, s := range Settings() {
		good, bad := []string{s.Example}, []string{}
		if m := ends.FindStringSubmatch(s.Values); m != nil {
			good = append(good, m[1], m[2])
			if lo, err := strconv.Atoi(m[1]); err == nil {
				hi, _ := strconv.Atoi(m[2])
				bad = append(bad, strconv.Itoa(lo-1), strconv.Itoa(hi+1))
			}
		}
		if choice, ok := strings.CutPrefix(s.Values, "one of: "); ok {
			good = append(good, strings.Split(choice, ", ")...)
			bad = append(bad, "nonsense")
		}
		if s.Path == "balance.table_base" {
			bad = bad[1:] // 255 is the kernel's, which is another word
		}
		for _, v := range good {
			if text := refusal(s.Path, v); text != "" {
				t.Errorf("the manual of %s says %s, but: %s", s.Path, v, text)
			}
		}
		for _, v := range bad {
			if refusal(s.Path, v) == "" {
				t.Errorf("%s: %s is taken, which the manual does not say", s.Path, v)
			}
		}
	}
}

// refusal is what reading says of a value at a path.
func refusal(path, v string) string {
	tree := map[string]any{"cluster": "home", "nodes": map[string]any{"r1": map[string]any{"address": "192.0.2.1"}, "r2": map[string]any{"address": "192.0.2.2"}}}
	uplink := map[string]any{"name": "cable", "device": "wan1", "virtual_addresses": "[203.0.113.10/25]", "probe": map[string]any{"targets": "[198.51.100.1]"}}
	other := map[string]any{"name": "dsl", "device": "wan2"}
	tree["uplinks"] = []any{uplink, other}
	tree["lans"] = []any{map[string]any{"name": "office", "device": "lan0", "virtual_addresses": "[192.168.77.1/24]"}}
	tree["policies"] = []any{map[string]any{"name": "default"}}
	switch {
	case strings.HasSuffix(path, ".clear"):
		put(tree, strings.TrimSuffix(path, "clear")+"degraded", map[bool]string{true: "100%", false: "1m"}[strings.Contains(path, ".loss.")])
	case strings.HasPrefix(path, "policies[].") && path != "policies[].name":
		row := map[string]any{"name": "some"} // with what the key or the method needs
		tree["policies"] = []any{row, map[string]any{"name": "default"}}
		uplink["speed"], other["speed"] = "{down: 100mbit, up: 20mbit}", "{down: 100mbit, up: 20mbit}"
		if v == "enforced" {
			row["uplinks"] = "[cable]"
		}
		if strings.HasPrefix(path, "policies[].persistence") {
			row["method"] = "persistence"
		}
		if strings.HasSuffix(path, "persistence.timeout") {
			row["persistence"] = map[string]any{"learned": "true"}
		}
		if strings.HasPrefix(path, "policies[].overflow") {
			row["method"] = "overflow"
		}
	case path == "vrrp.authentication":
		put(tree, "vrrp.version", "2")
	case strings.HasPrefix(path, "mail."):
		tree["mail"] = map[string]any{"to": "root", "smtp": "mx", "username": "router", "password_file": "password"}
	case path == "webhook.headers":
		put(tree, "webhook.url", "https://example.org/hook")
	case path == "nodes.NAME.addresses":
		tree["nodes"].(map[string]any)["r1"] = map[string]any{}
	case strings.HasPrefix(path, "uplinks[].probe.targets."):
		kind := map[string]string{"port": "tcp", "url": "http", "name": "dns"}[path[strings.LastIndex(path, ".")+1:]]
		target := map[string]any{"address": "198.51.100.1"}
		if kind != "" {
			target["method"] = kind
		}
		uplink["probe"] = map[string]any{"targets": []any{target}}
	}
	put(tree, path, v)
	_, problems := Parse("x", []byte(flow(tree)))
	for _, p := range problems.Errors() {
		if !strings.Contains(p.Text, "there is no file") {
			return p.Text
		}
	}
	return ""
}

// put sets a value in a tree of maps and lists of one map.
func put(tree map[string]any, path, v string) {
	path = strings.ReplaceAll(path, "NAME", "r1")
	path = strings.ReplaceAll(path, "PART", "vrrp")
	path = strings.ReplaceAll(path, "[]", "")
	at, parts := tree, strings.Split(path, ".")
	for _, p := range parts[:len(parts)-1] {
		switch have := at[p].(type) {
		case map[string]any:
			at = have
		case []any:
			at = have[0].(map[string]any)
		default:
			next := map[string]any{}
			at[p] = next
			switch p {
			case "routes":
				next["to"], next["device"] = "10.8.0.0/16", "tun0"
				at[p] = []any{next}
			case "allow":
				at[p] = []any{next}
			case "forward":
				next["port"], next["to"] = "443", "192.168.77.20"
				at[p] = []any{next}
			}
			at = next
		}
	}
	at[parts[len(parts)-1]] = v
}

// flow writes a tree in the flow form of YAML.
func flow(x any) string {
	switch x := x.(type) {
	case map[string]any:
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(x)) {
			parts = append(parts, k+": "+flow(x[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		var parts []string
		for _, v := range x {
			parts = append(parts, flow(v))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(x)
}
