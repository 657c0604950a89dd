package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMeasuredMethods(t *testing.T) {
	lines := func(cable, dsl string) string {
		return "[{name: cable, device: w1, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1]}" + cable + "}," +
			" {name: dsl, device: w2, virtual_addresses: [203.0.113.140/25], probe: {targets: [198.51.100.1]}" + dsl + "}]"
	}
	const (
		fast   = ", speed: {down: 100mbit, up: 20mbit}"
		up     = ", speed: {up: 20mbit}"
		least  = "policies.default: least-used compares how much of each line is free, but uplinks.dsl does not tell how fast it is; allowed: speed: {down: 100mbit} there, or another method"
		full   = "policies.default: overflow must know when a line is full, but uplinks.cable does not tell how fast it is; allowed: speed: {down: 100mbit, up: 20mbit} there, or another method"
		costs  = "warning: uplinks.cable is metered: probed every 10s instead of every 1s, so a silent fault is seen after 30.8s at the latest"
		nobody = "warning: policies.default: fastest-response has no two uplinks of one tier that have a weight and are not metered, so nothing is raced"
	)
	for _, c := range []struct {
		name, cable, dsl, policy string
		want                     []string
	}{
		{"least-used", fast, fast, "method: least-used", nil},
		{"least-used without a speed", fast, up, "method: least-used", []string{least}},
		{"overflow", fast, "", "method: overflow, overflow: {enter: 80%, leave: 50%, hold: 1s}", nil},
		{"overflow, the other way first", "", fast, "method: overflow, uplinks: [dsl, cable]", nil},
		{"overflow by upload alone", up, "", "method: overflow", nil},
		{"overflow without a speed", "", fast, "method: overflow", []string{full}},
		{"overflow, by tier", ", tier: 1", fast + ", tier: 2", "method: overflow, uplinks: [dsl, cable]", []string{full}},
		{"limits", fast, fast, "method: overflow, overflow: {enter: 70%}", []string{"policies.default.overflow: leave (75%) is not below enter (70%); allowed: less than that, so that a line does not fill and empty by turns"}},
		{"limit 0", fast, fast, "method: overflow, overflow: {enter: 0%}", []string{"policies.default.overflow.enter: a line would be full when nothing passes; allowed: more than that, such as 90%"}},
		{"fastest-response", "", "", "method: fastest-response, race: learn, persistence: {timeout: 1h}", nil},
		{"fastest-response, but one costs", ", metered: true", "", "method: fastest-response", []string{costs, nobody}},
		{"fastest-response, two tiers", ", tier: 2", "", "method: fastest-response", []string{nobody}},
		{"fastest-response, no weight", "", "", "method: fastest-response, weights: {dsl: 0}", []string{nobody}},
		{"fastest-response, of one", "", "", "method: fastest-response, uplinks: [dsl]", []string{nobody}},
		{"fastest-response with what is persistence's", "", "", "method: fastest-response, persistence: {by: source}", []string{"policies.default.persistence: it belongs to the method persistence; allowed: method: persistence, or remove it"}},
		{"lowest-latency", "", "", "method: lowest-latency, latency_margin: {percent: 0, time: 1ms, rounds: 1}", nil},
	} {
		_, ps := Parse("test.yaml", []byte(site(map[string]string{"uplinks": lines(c.cable, c.dsl), "policies": "[{name: default, " + c.policy + "}]"})))
		if d := cmp.Diff(c.want, texts(ps)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}
