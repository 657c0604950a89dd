package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// targets reads a list of addresses, each alone or as {address, method, …}. The
// field is ok also when there are none.
func (d *decoder) targets(t *table, p *Probe) field {
	f := t.field("targets")
	if f.v == nil || f.v.kind == null {
		f.ok = true
		return f
	}
	if f.v.kind != list {
		d.fail(f.v, "%s: %s stands here; allowed: a list such as [198.51.100.1, 198.51.100.2]", f.path(), f.v.kind)
		return f
	}
	f.ok = true
	first := map[Target]*value{}
	for _, item := range f.v.items {
		target, ok := d.target(item, f.path(), p.Method)
		if !ok {
			f.ok = false
			continue
		}
		if was := first[target]; was != nil {
			d.fail(item, "%s: %s stands twice (first in line %d); allowed: once", f.path(), target.Address, was.line)
			continue
		}
		first[target] = item
		d.facts.far = append(d.facts.far, claim{addr: target.Address, who: f.path(), v: item})
		p.Targets = append(p.Targets, target)
	}
	return f
}

func (d *decoder) target(v *value, path string, method ProbeMethod) (Target, bool) {
	to := Target{Method: method}
	if v.kind != mapping {
		a, err := host4(v)
		if err != nil {
			d.refuse(v, path, err)
		}
		to.Address = a
		return to, err == nil
	}
	t := d.table(v, v, path)
	defer t.close()
	address := take(t, "address", &to.Address, host4).required("an IPv4 address such as 198.51.100.1")
	ok := address.ok
	f := take(t, "method", &to.Method, probeMethods)
	ok = ok && (f.v == nil || f.ok)
	for _, part := range []struct {
		field
		of   []ProbeMethod // who asks for that
		such string
	}{
		{take(t, "port", &to.Port, number(1, 65535)), []ProbeMethod{ProbeTCP, ProbeDNS}, "tcp or dns"},
		{take(t, "url", &to.URL, probeURL), []ProbeMethod{ProbeHTTP}, "http"},
		{take(t, "name", &to.Name, dnsName), []ProbeMethod{ProbeDNS}, "dns"},
	} {
		switch {
		case part.v == nil:
		case !part.ok:
			ok = false
		case slices.Contains(part.of, to.Method):
		case to.Method == ProbeHTTP && part.name == "port":
			d.fail(part.at(), "%s: method http has its port in the url; allowed: url: http://example.org:%d/", part.path(), to.Port)
			ok = false
		default:
			d.fail(part.at(), "%s: says nothing to method %s; allowed: with method %s", part.path(), to.Method, part.such)
			ok = false
		}
	}
	return to, ok
}

var probeMethods = oneOf(ProbeICMP, ProbeTCP, ProbeDNS, ProbeHTTP, ProbeARP)

// probeURL is what a target is asked for by HTTP.
func probeURL(v *value) (string, error) {
	const allowed = "a URL such as https://www.example.org/"
	s, err := text(1024)(v)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return "", fmt.Errorf("%s is no http or https URL with a host; allowed: %s", quote(s), allowed)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("%s has no port from 1 to 65535; allowed: %s", quote(s), allowed)
		}
	}
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return "", fmt.Errorf("%s has a host with letters beyond a-z; allowed: %s (xn--…)", quote(s), allowed)
	}
	return s, nil
}

var label = regexp.MustCompile(`^[A-Za-z0-9_-]{1,63}$`)

// dnsName is a name that a name server is asked for.
func dnsName(v *value) (string, error) {
	const allowed = `a name such as www.example.org, or "." for the root`
	s, err := written(v, allowed)
	if err != nil || s == "." {
		return s, err
	}
	bare := strings.TrimSuffix(s, ".")
	for part := range strings.SplitSeq(bare, ".") {
		if len(bare) > 253 || !label.MatchString(part) {
			return "", fmt.Errorf("%s is no name in the DNS; allowed: %s", quote(s), allowed)
		}
	}
	return s, nil
}
