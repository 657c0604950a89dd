package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"harouter/ha"
	"harouter/ha/control"
)

// TestMove: a name that no node has is wrong input, and all names are told.
func TestMove(t *testing.T) {
	s, err := parse("c.yaml", []byte("cluster: home\nnodes: {r1: {address: 192.0.2.1}, r2: {address: 192.0.2.2}}\n"), "r1")
	if err != nil {
		t.Fatal(err)
	}
	var d daemon
	d.current.Store(s)
	for name, test := range map[string]struct {
		args failoverArgs
		verb ha.Verb
		want ha.Args
		err  string
	}{
		"the best":    {failoverArgs{}, ha.VerbFailover, ha.Args{}, ""},
		"one of them": {failoverArgs{To: "r2"}, ha.VerbFailover, ha.Args{To: "r2"}, ""},
		"hold over":   {failoverArgs{Auto: true}, ha.VerbAuto, ha.Args{}, ""},
		"no node":     {failoverArgs{To: "r9"}, 0, ha.Args{}, `there is no node "r9"`},
	} {
		verb, args, err := d.move(test.args)
		if refusal, ok := err.(*control.Error); (test.err != "") != ok || ok && (refusal.Code != 2 || !strings.Contains(refusal.Text, test.err) || !strings.Contains(refusal.Text, "there are: r1, r2; nothing changed")) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, args); verb != test.verb || diff != "" {
			t.Errorf("%s: %v\n%s", name, verb, diff)
		}
	}
}
