package config

import (
	"fmt"
	"strings"
)

func (d *decoder) match(t *table, m *Match) {
	defer t.close()
	take(t, "lan", &m.Lan, terms(name(maxName))).later()
	take(t, "source", &m.Source, terms(networkOrFile)).later()
	take(t, "destination", &m.Destination, terms(networkOrFile)).later()
	take(t, "protocol", &m.Protocol, terms(text(16))).later()
	take(t, "source_ports", &m.SourcePorts, terms(ports)).later()
	take(t, "destination_ports", &m.DestinationPorts, terms(ports)).later()
	take(t, "dscp", &m.DSCP, terms(text(16))).later()
	take(t, "mac", &m.MAC, terms(text(17))).later()
	take(t, "time", &m.Time, terms(text(64))).later()
	take(t, "router", &m.Router, boolean).later()
}

// terms is a value or a list of them, each alone or as {not: value}.
func terms[T any](item func(*value) (T, error)) func(*value) ([]Term[T], error) {
	return oneOrMore(func(v *value) (Term[T], error) {
		if v.kind != mapping {
			got, err := item(v)
			return Term[T]{Value: got}, err
		}
		if len(v.entries) != 1 || v.entries[0].key.text != "not" {
			return Term[T]{}, fmt.Errorf("a map stands here; allowed: a value, or {not: value}")
		}
		got, err := item(v.entries[0].value)
		return Term[T]{Not: true, Value: got}, err
	})
}

func networkOrFile(v *value) (Network, error) {
	if file, ok := strings.CutPrefix(v.text, "@"); ok && v.kind == scalar {
		if file == "" || strings.Contains(file, "/") || file == "." || file == ".." {
			return Network{}, fmt.Errorf("%s names no file; allowed: @ and the name of a file beside this one", quote(v.text))
		}
		return Network{File: file}, nil
	}
	p, err := network(v)
	return Network{Prefix: p}, err
}

// ports is one port, or a range such as 1000-2000.
func ports(v *value) (PortRange, error) {
	const allowed = "a port from 1 to 65535, or a range such as 1000-2000"
	s, err := written(v, allowed)
	if err != nil {
		return PortRange{}, err
	}
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	port := number[uint16](1, 65535)
	first, err1 := port(&value{kind: scalar, text: from})
	last, err2 := port(&value{kind: scalar, text: to})
	if err1 != nil || err2 != nil || first > last {
		return PortRange{}, fmt.Errorf("%s is no port; allowed: %s", quote(s), allowed)
	}
	return PortRange{first, last}, nil
}
