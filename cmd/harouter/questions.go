package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"harouter/ha/config"
	"harouter/ha/survey"
)

// questions asks a person what a machine does not show. An empty answer takes
// what stands in brackets.
type questions struct {
	in  *bufio.Reader
	out io.Writer
}

// nothing is the answer that there is none of it.
const nothing = "-"

// ask repeats a question until take accepts the answer. It ends with an error
// when the person goes away.
func (q *questions) ask(what, proposal string, take func(answer string) error) error {
	for {
		if _, err := fmt.Fprintf(q.out, "%s [%s]: ", what, proposal); err != nil {
			return fmt.Errorf("ask: %w", err)
		}
		line, err := q.in.ReadString('\n')
		if err != nil {
			fmt.Fprintln(q.out)
			if errors.Is(err, io.EOF) {
				err = context.Canceled
			}
			return err
		}
		answer := strings.TrimSpace(line)
		if answer == "" {
			answer = proposal
		}
		err = take(answer)
		if err == nil {
			return nil
		}
		fmt.Fprintf(q.out, "  %v\n", err)
	}
}

// complete asks for what neither flags nor devices say of m, and returns the
// address where other routers will reach this one.
func (q *questions) complete(a initArgs, m *config.Machine, devices []survey.Device) (address string, err error) {
	fmt.Fprintf(q.out, "What this machine has:\n%s\nWhat it does not show is asked; Enter takes what stands in brackets.\n\n", deviceTable(devices, func(d survey.Device) string { return d.Use.String() }))
	steps := []func() error{
		func() error { return q.missingLan(m, devices) },
		func() error { return q.missingUplink(m, devices) },
	}
	for _, ask := range steps {
		if err := ask(); err != nil {
			return "", err
		}
	}
	for i := range m.Lans {
		if err := q.gatewayOfHosts(&m.Lans[i], *m); err != nil {
			return "", err
		}
	}
	for i := range m.Uplinks {
		if err := q.line(&m.Uplinks[i], len(m.Uplinks) > 1); err != nil {
			return "", err
		}
	}
	if a.address != "" {
		return a.address, nil
	}
	proposal := nothing
	if seen, ok := meeting(*m, devices); ok {
		proposal = seen.String()
	}
	err = q.ask("Address where other routers will reach this one, best on a direct cable", proposal, func(answer string) error {
		address = answer
		_, err := netip.ParseAddr(answer)
		if err != nil {
			return fmt.Errorf("%q is no IP address; allowed: one such as 192.0.2.1", answer)
		}
		return nil
	})
	return address, err
}

// device asks which of the devices without a use is meant; "" is none.
func (q *questions) device(what string, m config.Machine, devices []survey.Device) (survey.Device, error) {
	var free []string
	for _, d := range devices {
		if !usedBy(m, d.Name) && d.Name != "lo" {
			free = append(free, d.Name)
		}
	}
	var out survey.Device
	err := q.ask(fmt.Sprintf("%s (%s; %s: none)", what, strings.Join(free, ", "), nothing), nothing, func(answer string) error {
		if answer == nothing {
			return nil
		}
		if !slices.Contains(free, answer) {
			return fmt.Errorf("%q is none of them; allowed: %s, or %s", answer, strings.Join(free, ", "), nothing)
		}
		out = devices[slices.IndexFunc(devices, func(d survey.Device) bool { return d.Name == answer })]
		return nil
	})
	return out, err
}

func usedBy(m config.Machine, device string) bool {
	return slices.ContainsFunc(m.Lans, func(l config.MachineLan) bool { return l.Device == device }) ||
		slices.ContainsFunc(m.Uplinks, func(u config.MachineUplink) bool { return u.Device == device })
}

func (q *questions) missingLan(m *config.Machine, devices []survey.Device) error {
	if len(m.Lans) > 0 {
		return nil
	}
	d, err := q.device("No device looks like a lan. Which one leads to the hosts?", *m, devices)
	if err != nil || d.Name == "" {
		return err
	}
	m.Lans = []config.MachineLan{{Name: numbered("lan", 0), Device: d.Name, Own: d.Address}}
	return nil
}

func (q *questions) missingUplink(m *config.Machine, devices []survey.Device) error {
	if len(m.Uplinks) > 0 {
		return nil
	}
	d, err := q.device("No device looks like an ISP's line. Which one is?", *m, devices)
	if err != nil || d.Name == "" {
		return err
	}
	u := config.MachineUplink{Name: numbered("isp", 0), Device: d.Name, Own: d.Address}
	err = q.ask(fmt.Sprintf("Gateway of the line on %s (auto: follow the route that the machine has)", d.Name), "auto", func(answer string) (err error) {
		if answer == "auto" {
			return nil
		}
		if u.Gateway, err = netip.ParseAddr(answer); err != nil {
			return fmt.Errorf("%q is no IP address; allowed: one such as 203.0.113.1, or auto", answer)
		}
		return nil
	})
	m.Uplinks = []config.MachineUplink{u}
	return err
}

// gatewayOfHosts asks for the virtual address of a lan.
func (q *questions) gatewayOfHosts(l *config.MachineLan, m config.Machine) error {
	if l.Virtual.IsValid() {
		return nil
	}
	proposal := nothing
	if p := config.Suggest(l.Own, m.Address); p.IsValid() {
		proposal = p.String()
	}
	return q.ask(fmt.Sprintf("Virtual address on %s, the gateway of its hosts and no router's own", l.Device), proposal, func(answer string) (err error) {
		l.Virtual, err = inNetwork(answer, l.Own)
		return err
	})
}

// line asks for an uplink's virtual address, and for its share beside others.
func (q *questions) line(u *config.MachineUplink, several bool) error {
	if !u.Virtual.IsValid() && u.Own.IsValid() && u.Gateway.IsValid() { // not where both are lent
		err := q.ask(fmt.Sprintf("Virtual address on %s (%s), a free one that is yours there, so that connections survive the death of a router (%s: none)", u.Device, u.Own, nothing), nothing, func(answer string) (err error) {
			if answer != nothing {
				u.Virtual, err = inNetwork(answer, u.Own)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if u.Weight != 0 || !several {
		return nil
	}
	return q.ask(fmt.Sprintf("Share of %s on %s: twice the weight, twice the connections", u.Name, u.Device), "1", func(answer string) (err error) {
		if u.Weight, err = strconv.Atoi(answer); err != nil || u.Weight < 1 || u.Weight > 255 {
			return fmt.Errorf("%q is no weight; allowed: 1 to 255", answer)
		}
		return nil
	})
}

// inNetwork reads an address, whose length may be left out where the router has
// one of its own in that network.
func inNetwork(text string, own netip.Prefix) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if a, alone := netip.ParseAddr(text); alone == nil && own.IsValid() && own.Contains(a) {
		p, err = netip.PrefixFrom(a, own.Bits()), nil
	}
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%q is no address with a length; allowed: one such as 192.168.77.1/24", text)
	case p.Addr() == own.Addr():
		return netip.Prefix{}, fmt.Errorf("%v is this router's own address now; give the router another one first, or take another one here", p.Addr())
	}
	return p, nil
}
