package importer

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
)

var pppDevice = regexp.MustCompile(`^ppp\d+$`)

// maxOurs is the largest weight that our file has.
const maxOurs = 255

// chooseWeights makes whole numbers up to 255 of the weights, in the same ratio
// where that is possible.
func (im *importer) chooseWeights() {
	largest, sum, scaled := 0.0, 0.0, false
	for _, u := range im.uplinks {
		largest, sum = max(largest, u.service.weight), sum+u.service.weight
	}
	factor := im.wholeFactor(largest)
	for _, u := range im.uplinks {
		w := u.service.weight * factor
		u.weight = int(math.Round(w))
		if u.service.weight > 0 {
			u.weight = max(u.weight, 1)
		}
		scaled = scaled || math.Abs(w-float64(u.weight)) > 1e-9
	}
	if sum == 0 && len(im.uplinks) > 0 {
		for _, u := range im.uplinks {
			u.weight = 1
		}
		im.warn(im.uplinks[0].service.at, "the weights of all lines are 0, so all of them get 1")
	}
	if scaled && !im.conf.failover {
		im.warn(im.uplinks[0].service.at, "the weights are more than 255 to 1 apart and were brought nearer; if a line is meant for when the others are down, "+
			"give it tier: 2 instead: it gets nothing while one of tier 1 works")
	}
}

// wholeFactor makes all weights whole and at most 255; where none does, the
// largest becomes 255.
func (im *importer) wholeFactor(largest float64) float64 {
	for _, f := range []float64{1, 2, 3, 4, 5, 10, 20, 50, 100, 1. / 2, 1. / 5, 1. / 10, 1. / 20, 1. / 50, 1. / 100, 1. / 1000} {
		if largest*f > maxOurs {
			continue
		}
		if !slices.ContainsFunc(im.uplinks, func(u *uplink) bool {
			w := u.service.weight * f
			return math.Abs(w-math.Round(w)) > 1e-9
		}) {
			return f
		}
	}
	return maxOurs / max(largest, 1)
}

// byPreference are the uplinks as failover mode takes them: the greatest weight
// first, of equal ones that which stands first in the file.
func (im *importer) byPreference() []*uplink {
	all := slices.Clone(im.uplinks)
	slices.SortStableFunc(all, func(a, b *uplink) int {
		switch {
		case a.service.weight > b.service.weight:
			return -1
		case a.service.weight < b.service.weight:
			return 1
		}
		return 0
	})
	return all
}

func (im *importer) uplinkEntry(u *uplink, probes []setting) *entry {
	svc := u.service
	row := &entry{text: "- name: " + plain(u.name), note: came(svc.at, "there "+svc.name), from: svc.at}
	row.add(&entry{text: fmt.Sprintf("id: %d", u.id), note: "stays with this line for good", from: svc.at})
	row.add(&entry{text: "device: " + plain(svc.base()), from: svc.columns["device"]})
	row.add(im.gatewayEntry(svc))
	im.virtualEntry(row, svc)
	note := "" // of the default
	if at, ok := svc.columns["weight"]; ok {
		note = came(at, "")
		if float64(u.weight) != svc.weight {
			note = came(at, fmt.Sprintf("there %g", svc.weight))
		}
	}
	row.add(&entry{text: fmt.Sprintf("weight: %d", u.weight), note: note, from: svc.at})
	probe := row.add(&entry{text: "probe:", from: svc.at, box: true})
	im.targetEntry(probe, svc)
	for _, s := range probes {
		probe.add(&entry{text: s.text, note: came(s.from, s.note), from: s.from})
	}
	return row
}

// gatewayEntry: the column, else what the machine has, else what is found out
// while running.
func (im *importer) gatewayEntry(svc *service) *entry {
	at, written := svc.columns["gateway"]
	d := im.devices[svc.base()]
	switch {
	case written:
		a, _ := netip.ParseAddr(svc.gateway)
		return &entry{text: "gateway: " + addressText(a), note: came(at, ""), from: at}
	case pppDevice.MatchString(svc.base()):
		return &entry{text: "gateway: ppp", note: "the other end of the link", from: svc.at}
	case d.Gateway.IsValid() && d.Dynamic:
		return &entry{text: "gateway: dhcp", note: fmt.Sprintf("the lease says %s now", d.Gateway), from: svc.at}
	case d.Gateway.IsValid():
		return &entry{text: "gateway: " + addressText(d.Gateway), note: "what this machine's default route over " + svc.base() + " says now", from: svc.at}
	}
	return &entry{text: "gateway: auto", note: "what this machine's default route over " + svc.base() + " says", from: svc.at}
}

// virtualEntry: the address of an alias moves with the master; what else the
// device has stays where it is until somebody says otherwise.
func (im *importer) virtualEntry(row *entry, svc *service) {
	d := im.devices[svc.base()]
	p := d.Labelled[svc.device]
	switch {
	case svc.alias() && p.IsValid():
		row.add(&entry{text: "virtual_addresses: [" + p.String() + "]", note: came(svc.columns["device"], "the address of "+svc.device), from: svc.columns["device"]})
	case svc.alias():
		im.warn(svc.columns["device"], "this machine has no address labelled %s; if %s is to use one, write it as virtual_addresses: [ADDRESS/LENGTH]", svc.device, svc.name)
		row.add(&entry{text: "virtual_addresses: [ADDRESS/LENGTH]", note: "the address of " + svc.device, from: svc.columns["device"], comment: true})
	case d.Address.IsValid() && !d.Dynamic && !pppDevice.MatchString(svc.base()):
		row.add(&entry{text: "virtual_addresses: [" + d.Address.String() + "]", note: "moves to the master: with a second router, write this", from: svc.at, comment: true})
	}
}

// standard is what Net-ISP-Balance pings where nothing is said.
const standard = "www.google.ca"

// targetEntry: ping-ip. Our file has addresses only: a name cannot be found while
// the line is down.
func (im *importer) targetEntry(probe *entry, svc *service) {
	at, written := svc.columns["ping-ip"]
	host := svc.ping
	if !written || host == "" {
		host, at = standard, svc.at
	}
	if a, err := netip.ParseAddr(host); err == nil {
		probe.add(&entry{text: "targets: [" + addressText(a) + "]", note: came(at, ""), from: at})
		return
	}
	whose := host
	if host == standard && svc.ping == "" {
		whose += ", the default there"
	}
	var a netip.Addr
	if im.in.Resolve != nil {
		if found, err := im.in.Resolve(host); err == nil && found.IsValid() {
			a = found.Unmap()
		}
	}
	if !a.IsValid() {
		im.warn(at, "%s is pinged by name (%s), which harouter does not do and which cannot be resolved here now; write addresses that answer pings, such as the ISP's name servers: probe: {targets: [ADDRESS, ADDRESS]}", svc.name, whose)
		probe.add(&entry{text: "targets: [ADDRESS, ADDRESS]", note: came(at, "there "+whose), from: at, comment: true})
		return
	}
	im.warn(at, "%s is pinged by name (%s), harouter pings addresses: %s now; better are addresses that stay, such as the ISP's name servers", svc.name, whose, a)
	probe.add(&entry{text: "targets: [" + addressText(a) + "]", note: came(at, "the address of "+whose+" when this was written"), from: at})
}
