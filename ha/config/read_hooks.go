package config

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (d *decoder) hooks(t *table, c *Hooks) {
	defer t.close()
	take(t, "directory", &c.Directory, text(1024))
	take(t, "timeout", &c.Timeout, duration(time.Millisecond, time.Hour, 1))
}

var serviceSyntax = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@:\\-]*$`)

// service is what systemctl or rc-service is told as a name.
func service(v *value) (string, error) {
	const allowed = "1 to 64 characters of A-Z a-z 0-9 _ . @ : -"
	s, err := written(v, allowed)
	if err == nil && (!serviceSyntax.MatchString(s) || len(s) > 64) {
		err = fmt.Errorf("%s cannot be the name of a service; allowed: %s", quote(s), allowed)
	}
	return s, err
}

func (d *decoder) services(t *table, all *[]string) {
	each(t, "services", service, func(v *value, name string) {
		if strings.TrimSuffix(name, ".service") == "harouter" {
			d.fail(v, "services: every backup would stop %s, and with it itself; remove it", name)
			return
		}
		if slices.Contains(*all, name) {
			d.fail(v, "services: %s stands here twice; allowed: once", name)
			return
		}
		*all = append(*all, name)
	})
}

// mailAddress is a mailbox, or the name of a local user. What is looked at is
// only that it fits into a header and into a command of SMTP.
func mailAddress(v *value) (string, error) {
	const allowed = "an address such as admin@example.org, or a local user such as root"
	s, err := written(v, allowed)
	if err != nil {
		return "", err
	}
	user, host, at := strings.Cut(s, "@")
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>,;:()[]"\\`, r) }
	if user == "" || at && host == "" || strings.Contains(host, "@") || s[0] == '-' || len(s) > 254 || strings.ContainsFunc(s, odd) {
		return "", fmt.Errorf("%s is no mail address; allowed: %s", quote(s), allowed)
	}
	return s, nil
}

// mailServer is a host, or host:port.
func mailServer(v *value) (string, error) {
	const allowed = "a host such as mail.example.org, or host:port"
	s, err := text(254)(v)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), "25"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("/@<>", r) }) {
		return "", fmt.Errorf("%s is no mail server; allowed: %s", quote(s), allowed)
	}
	return s, nil
}

func (d *decoder) mail(t *table, c *Mail) {
	defer t.close()
	to := take(t, "to", &c.To, oneOrMore(mailAddress))
	from := take(t, "from", &c.From, mailAddress)
	smtp := take(t, "smtp", &c.SMTP, mailServer)
	user := take(t, "username", &c.Username, text(254))
	password := take(t, "password_file", &c.PasswordFile, text(1024))
	needs := func(f, other field, why string) {
		if f.v != nil && other.v == nil {
			d.fail(f.at(), "%s: %s; write %s too, or remove it", f.path(), why, other.path())
		}
	}
	switch {
	case to.v == nil:
		for _, f := range []field{from, smtp, user, password} {
			needs(f, to, "there is nobody to write to")
		}
	default:
		needs(user, smtp, "only a mail server asks for it")
		needs(user, password, "it needs a password")
		needs(password, user, "a password alone is of no use")
	}
}

// webAddress is where a request can be sent to.
func webAddress(v *value) (string, error) {
	const allowed = "an address such as https://example.org/hook"
	s, err := text(2048)(v)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return "", fmt.Errorf("%s is no address of a web server; allowed: %s", quote(s), allowed)
	}
	return s, nil
}

// header is a value that fits into one line of a request.
func header(v *value) (string, error) {
	s, err := text(2048)(v)
	if err == nil && strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		err = fmt.Errorf("%s cannot be the value of a header; allowed: one line without control characters", quote(s))
	}
	return s, err
}

var headerSyntax = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

func (d *decoder) webhook(t *table, c *Webhook) {
	defer t.close()
	to := take(t, "url", &c.URL, webAddress)
	f := t.field("headers")
	headers := d.table(f.v, t.at, f.path())
	for _, e := range headers.all() {
		path, name := join2(headers.path, e.key.text), http.CanonicalHeaderKey(e.key.text)
		v, err := header(e.value)
		switch {
		case err != nil:
			d.refuse(e.value, path, err)
			continue
		case !headerSyntax.MatchString(name):
			d.fail(e.key, "%s cannot be the name of a header; allowed: a name such as Authorization", path)
			continue
		case slices.Contains([]string{"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection"}, name):
			d.fail(e.key, "%s is set by harouter itself; remove it", path)
			continue
		}
		if c.Headers == nil {
			c.Headers = map[string]string{}
		}
		if c.Headers[name] != "" {
			d.fail(e.key, "%s stands here twice; allowed: once", path)
		}
		c.Headers[name] = v
	}
	if f.v != nil && len(headers.entries) > 0 && to.v == nil {
		d.fail(f.at(), "%s: there is no address to send them to; write %s too, or remove it", f.path(), to.path())
	}
}
