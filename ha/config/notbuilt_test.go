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
		{"uplinks", up(", gateway: dhcp"), "uplinks.a.gateway: dhcp", " or set it to auto"},
		{"uplinks", up(", gateway: ppp"), "uplinks.a.gateway: ppp", " or set it to auto"},
		{"policies", policy("race: hold"), "policies.default.race: hold", " or set it to learn"},
		{"firewall", "{enabled: false}", "firewall.enabled: false", " or set it to true"},
		{"firewall", "{allow: [{from: wan, protocol: tcp, ports: [22, 80-90], source: 10.0.0.0/8, limit: 5/s}]}", "firewall.allow", ""},
		{"firewall", "{forward: [{port: 443, to: \"192.168.77.20:8443\"}]}", "firewall.forward", ""},
		{"firewall", "{groups: [[office, \":uplinks\"]]}", "firewall.groups", ""},
		{"firewall", "{icmp_limit: 10/s}", "firewall.icmp_limit: 10/s", ""},
		{"firewall", "{syn_limit: 10/s}", "firewall.syn_limit: 10/s", ""},
		{"firewall", "{log: false}", "firewall.log: false", " or set it to true"},
		{"firewall", "{antispoof: false}", "firewall.antispoof: false", " or set it to true"},
		{"firewall", "{mss: off}", "firewall.mss: off", " or set it to clamp"},
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
