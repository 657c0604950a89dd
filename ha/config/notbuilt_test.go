package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNotBuilt lists what this version refuses. Who builds a key deletes its
// line here and its call of later.
func TestNotBuilt(t *testing.T) {
	for _, test := range []struct{ key, text, what, mend string }{
		{"uplinks", up(", gateway: dhcp"), "uplinks.a.gateway: dhcp", " or set it to auto"},
		{"uplinks", up(", gateway: ppp"), "uplinks.a.gateway: ppp", " or set it to auto"},
		{"firewall", "{groups: [[office, \":uplinks\"]]}", "firewall.groups", ""},
		{"routes", "[{to: 10.8.0.0/16, device: tun0, gateway: 10.9.0.1, source: 10.9.0.2, masquerade: true}]", "routes", ""},
	} {
		_, ps := Parse("test.yaml", []byte(site(map[string]string{test.key: test.text})))
		want := []string{test.what + " is not built yet in this version; remove it" + test.mend}
		if diff := cmp.Diff(want, texts(ps)); diff != "" {
			t.Errorf("%s: %s\n%s", test.key, test.text, diff)
		}
	}
}
