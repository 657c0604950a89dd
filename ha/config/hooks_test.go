package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWhoIsTold: what is taken, and what is refused with which words.
func TestWhoIsTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, key, text string
		want            []string
	}{
		{"services", "services", "[isc-dhcp-server, getty@tty1.service, a.timer]", nil},
		{"a service is no option", "services", "[--now]", []string{`services: "--now" cannot be the name of a service; allowed: 1 to 64 characters of A-Z a-z 0-9 _ . @ : -`}},
		{"a service is no command", "services", "[\"a;b\"]", []string{`services: "a;b" cannot be the name of a service; allowed: 1 to 64 characters of A-Z a-z 0-9 _ . @ : -`}},
		{"a service twice", "services", "[a, b, a]", []string{"services: a stands here twice; allowed: once"}},
		{"harouter itself", "services", "[harouter.service]", []string{"services: every backup would stop harouter.service, and with it itself; remove it"}},
		{"hooks", "hooks", "{directory: /srv/hooks, timeout: 1m}", nil},
		{"mail to a user", "mail", "{to: root}", nil},
		{"mail", "mail", "{to: [a@example.org, b@example.org], from: c@example.org, smtp: \"mx:587\", username: u, password_file: p}", nil},
		{"a server with an IPv6 address", "mail", "{to: root, smtp: \"[fd00::1]:25\"}", nil},
		{"mail to an option", "mail", "{to: -oQ/tmp}", []string{`mail.to: "-oQ/tmp" is no mail address; allowed: an address such as admin@example.org, or a local user such as root`}},
		{"mail to two in one", "mail", "{to: \"a@x, b@x\"}", []string{`mail.to: "a@x, b@x" is no mail address; allowed: an address such as admin@example.org, or a local user such as root`}},
		{"mail to nobody", "mail", "{from: a@x, username: u}", []string{
			"mail.from: there is nobody to write to; write mail.to too, or remove it",
			"mail.username: there is nobody to write to; write mail.to too, or remove it",
		}},
		{"no server", "mail", "{to: root, username: u}", []string{
			"mail.username: only a mail server asks for it; write mail.smtp too, or remove it",
			"mail.username: it needs a password; write mail.password_file too, or remove it",
		}},
		{"a server's port", "mail", "{to: root, smtp: \"mx:0\"}", []string{`mail.smtp: "mx:0" is no mail server; allowed: a host such as mail.example.org, or host:port`}},
		{"webhook", "webhook", "{url: \"https://example.org/x?y=z\", headers: {Authorization: Bearer abc}}", nil},
		{"no web server", "webhook", "{url: \"ftp://x/\"}", []string{`webhook.url: "ftp://x/" is no address of a web server; allowed: an address such as https://example.org/hook`}},
		{"headers for nobody", "webhook", "{headers: {A: b}}", []string{"webhook.headers: there is no address to send them to; write webhook.url too, or remove it"}},
		{"odd headers", "webhook", "{url: \"http://x\", headers: {\"A b\": c, host: d}}", []string{
			"webhook.headers.A b cannot be the name of a header; allowed: a name such as Authorization",
			"webhook.headers.host is set by harouter itself; remove it",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, ps := Parse("test.yaml", []byte(site(map[string]string{c.key: c.text})))
			if diff := cmp.Diff(c.want, texts(ps)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
