package config

import "net/netip"

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
	first := map[netip.Addr]*value{}
	for _, item := range f.v.items {
		target, ok := d.target(item, f.path(), p.Method)
		if !ok {
			f.ok = false
			continue
		}
		if was := first[target.Address]; was != nil {
			d.fail(item, "%s: %s stands twice (first in line %d); allowed: once", f.path(), target.Address, was.line)
			continue
		}
		first[target.Address] = item
		d.facts.far = append(d.facts.far, claim{target.Address, f.path(), item})
		p.Targets = append(p.Targets, target)
	}
	return f
}

func (d *decoder) target(v *value, path string, method ProbeMethod) (Target, bool) {
	to := Target{Method: method}
	if v.kind != mapping {
		a, err := host(v)
		if err != nil {
			d.refuse(v, path, err)
		}
		to.Address = a
		return to, err == nil
	}
	t := d.table(v, v, path)
	defer t.close()
	f := take(t, "address", &to.Address, host).required("an IPv4 address such as 198.51.100.1")
	to.Method = ProbeICMP // what a target may say in this version
	take(t, "method", &to.Method, oneOf(ProbeICMP, ProbeTCP, ProbeDNS, ProbeHTTP, ProbeARP)).later()
	take(t, "port", &to.Port, number(1, 65535)).later()
	take(t, "url", &to.URL, text(1024)).later()
	take(t, "name", &to.Name, text(253)).later()
	return to, f.ok
}
