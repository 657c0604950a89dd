package main

import (
	"strings"
	"testing"

	"harouter/ha"
)

// TestResting: what maintenance means depends on who else could serve.
func TestResting(t *testing.T) {
	t.Parallel()
	node := func(name string, alive, rests bool) ha.NodeStatus {
		return ha.NodeStatus{Name: name, Alive: alive, Maintenance: rests}
	}
	for _, c := range []struct {
		name   string
		others []ha.NodeStatus
		want   string
	}{
		{"another serves", []ha.NodeStatus{node("r2", true, false), node("r3", true, true)}, "master only while no other is alive"},
		{"alone", []ha.NodeStatus{node("r2", false, false)}, "no other is alive, so it stays master"},
		{"all rest", []ha.NodeStatus{node("r2", true, true), node("r3", false, false)}, "so is every other that is alive: r1 stays master"},
	} {
		s := ha.Status{Node: "r1", VRRP: ha.VRRPStatus{Master: "r1"}, Nodes: append(c.others, node("r1", true, true))}
		if got := resting(s); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
