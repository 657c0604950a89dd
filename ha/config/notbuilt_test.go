package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNotBuilt lists what this version refuses. Who builds a key deletes its
// line here and its call of later.
func TestNotBuilt(t *testing.T) {
	policy := func(text string) string { return "[{name: default, " + text + "}]" }
	for _, test := range []struct{ key, text, what, mend string }{
		{"vrrp", "{check: {command: [/bin/true]}}", "vrrp.check.command", ""},
		{"vrrp", "{check: {interval: 5s}}", "vrrp.check.interval: 5s", " or set it to 2s"},
		{"vrrp", "{check: {timeout: 5s}}", "vrrp.check.timeout: 5s", " or set it to 1s"},
		{"vrrp", "{check: {rise: 5}}", "vrrp.check.rise: 5", " or set it to 2"},
		{"vrrp", "{check: {fall: 5}}", "vrrp.check.fall: 5", " or set it to 3"},
		{"uplinks", up(", gateway: dhcp"), "uplinks.a.gateway: dhcp", " or set it to auto"},
		{"uplinks", up(", gateway: ppp"), "uplinks.a.gateway: ppp", " or set it to auto"},
		{"policies", policy("method: fastest-response"), "policies.default.method: fastest-response", " or set it to weighted"},
		{"policies", policy("race: hold"), "policies.default.race: hold", " or set it to learn"},
		{"firewall", "{groups: [[office, \":uplinks\"]]}", "firewall.groups", ""},
		{"routes", "[{to: 10.8.0.0/16, device: tun0, gateway: 10.9.0.1, source: 10.9.0.2, masquerade: true}]", "routes", ""},
		{"services", "[dnsmasq]", "services", ""},
		{"hooks", "{directory: scripts}", "hooks.directory: scripts", " or set it to hooks"},
		{"hooks", "{timeout: 1m}", "hooks.timeout: 1m", " or set it to 30s"},
		{"mail", "{to: [admin@example.org]}", "mail.to", ""},
		{"mail", "{from: a@example.org}", "mail.from: a@example.org", ""},
		{"mail", "{smtp: \"mx:25\"}", "mail.smtp: mx:25", ""},
		{"mail", "{username: u}", "mail.username: u", ""},
		{"mail", "{password_file: f}", "mail.password_file: f", ""},
		{"webhook", "{url: \"https://x/\"}", "webhook.url: https://x/", ""},
		{"webhook", "{headers: {X-Token: y}}", "webhook.headers", ""},
	} {
		_, ps := Parse("test.yaml", []byte(site(map[string]string{test.key: test.text})))
		want := []string{test.what + " is not built yet in this version; remove it" + test.mend}
		if diff := cmp.Diff(want, texts(ps)); diff != "" {
			t.Errorf("%s: %s\n%s", test.key, test.text, diff)
		}
	}
}
