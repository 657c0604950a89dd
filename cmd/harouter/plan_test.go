package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func planned(t *testing.T, at situation) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "harouter.yaml")
	const text = `cluster: home
nodes:
  r1: {address: 192.0.2.1, priority: 200}
  r2: {address: 192.0.2.2, priority: 150}
lans: [{name: office, device: plan-lan, virtual_addresses: [192.168.77.1/24]}]
uplinks:
  - {name: cable, device: plan-wan1, gateway: 203.0.113.1, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1]}}
  - {name: dsl, device: plan-wan2, virtual_addresses: [203.0.113.140/25], probe: {targets: [198.51.100.1]}}
  - {name: line, device: plan-ppp0, gateway: ppp, probe: {targets: [198.51.100.1]}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := load(&common{config: file, node: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	return s.plan(at, time.Now())
}

// TestPlanSupposes: what a situation changes in the script. That the script gives
// what the daemon does is proved in test/integration.
func TestPlanSupposes(t *testing.T) {
	const way = "ip route add default table 7000 protocol 200 "
	for _, test := range []struct {
		name   string
		at     situation
		has    []string
		hasNot []string
	}{
		{"master", situation{role: "master"},
			[]string{"#!/bin/sh\n# r1 of cluster home as master\n", "# The gateway of dsl is found on the node", "set active {\n\t\ttype nf_proto\n\t\telements = { ipv4 }",
				way + "via 203.0.113.1 dev plan-wan1 onlink", "goto up_dsl", "table 7002", "default table 7003 protocol 200 dev plan-ppp0 scope link"}, []string{"gateway of line"}},
		{"an uplink is down", situation{role: "master", down: []string{"dsl"}}, []string{", down: dsl\n"}, []string{"goto up_dsl"}},
		{"backup", situation{role: "backup"}, []string{way + "via 192.0.2.2 dev $(ip route get 192.0.2.2 "}, []string{"elements = { ipv4 }"}},
	} {
		text, err := planned(t, test.at)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		for _, want := range test.has {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in\n%s", test.name, want, text)
			}
		}
		for _, no := range test.hasNot {
			if strings.Contains(text, no) {
				t.Errorf("%s: %q is in\n%s", test.name, no, text)
			}
		}
	}
}

func TestPlanOfNothingKnown(t *testing.T) {
	for at, want := range map[string]situation{
		`--role "boss" is not understood; allowed: master or backup`:                               {role: "boss"},
		`--down cabel: there is no such uplink (did you mean cable?); there are: cable, dsl, line`: {role: "master", down: []string{"cabel"}},
	} {
		_, err := planned(t, want)
		if wrong := (wrongInput{}); !errors.As(err, &wrong) || err.Error() != at {
			t.Errorf("got %v, want %s", err, at)
		}
	}
}
