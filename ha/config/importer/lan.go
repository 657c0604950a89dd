package importer

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"harouter/ha/config"
)

// lan is one of ours, of one service or of several on one device.
type lan struct {
	name     string
	services []*service
	virtual  []address
}

// address is a virtual one and how it is known.
type address struct {
	prefix netip.Prefix
	note   string
}

// uplink is one of ours.
type uplink struct {
	name    string
	id      int
	service *service
	weight  int
}

const (
	maxUplinks = 63
	maxLans    = 254
	maxName    = 32
)

var tunnel = regexp.MustCompile(`^(tun|ppp|wg|gre|sit|vti)\d+$`)

var outOfNames = regexp.MustCompile(`[^a-z0-9._-]`)

// named makes a name of ours from one of theirs. Names are those of lans and
// uplinks at once.
func (im *importer) named(theirs string) string {
	name := strings.TrimLeft(outOfNames.ReplaceAllString(strings.ToLower(theirs), "-"), "._-")
	if name = name[:min(len(name), maxName)]; name == "" {
		name = "line"
	}
	free := func(n string) bool {
		return !slices.ContainsFunc(im.lans, func(l *lan) bool { return l.name == n }) &&
			!slices.ContainsFunc(im.uplinks, func(u *uplink) bool { return u.name == n })
	}
	for i := 2; !free(name); i++ {
		tail := fmt.Sprintf("-%d", i)
		name = strings.TrimRight(name[:min(len(name), maxName-len(tail))], "-") + tail
	}
	return name
}

// chooseLinks makes lans and uplinks of the services: one for each device, which
// is what our file can say.
func (im *importer) chooseLinks() {
	for _, svc := range im.conf.services {
		switch l, u := im.lanOn(svc.base()), im.uplinkOn(svc.base()); {
		case svc.role == "lan" && l != nil: // an alias, or written twice
			l.services = append(l.services, svc)
			l.virtual = append(l.virtual, im.lanAddress(l, svc))
		case l != nil || u != nil:
			im.later(svc.at, svc.name, fmt.Sprintf("device %s carries %s already, and a device carries one lan or uplink here; "+
				"make a second one of it, ip link add link %[1]s name NEW type macvlan, move the address there, and write a line for NEW", svc.base(), im.carries(l, u)))
		case svc.role == "lan" && len(im.lans) == maxLans, svc.role == "isp" && len(im.uplinks) == maxUplinks:
			im.fail(svc.at, "one %s too many; allowed: %d lans and %d lines", svc.role, maxLans, maxUplinks)
		case svc.role == "lan":
			l := &lan{name: im.named(svc.name), services: []*service{svc}}
			im.lans = append(im.lans, l)
			if tunnel.MatchString(svc.base()) {
				im.warn(svc.columns["device"], "%s looks like a tunnel, which ends on one router: if only hosts behind it are to be reached, take it out of lans and write routes: [{to: NETWORK, device: %[1]s}]", svc.base())
			}
			l.virtual = append(l.virtual, im.lanAddress(l, svc))
		default:
			im.uplinks = append(im.uplinks, &uplink{name: im.named(svc.name), id: len(im.uplinks) + 1, service: svc})
		}
	}
	im.chooseWeights()
	for _, name := range slices.Sorted(maps.Keys(im.in.Lans)) {
		if im.lanOf(name) == nil {
			im.fail(place{}, "--lan %s: there is no lan service of that name; allowed: %s", name, im.lanNames())
		}
	}
	for _, l := range im.lans {
		for _, v := range l.virtual {
			if v.prefix.Addr() == im.in.Address {
				im.fail(place{}, "--address %s is the gateway of lan %s, which moves from router to router; allowed: an address that stays with this one", im.in.Address, l.name)
			}
		}
	}
}

func (im *importer) lanNames() string {
	var names []string
	for _, s := range im.conf.services {
		if s.role == "lan" {
			names = append(names, strings.ToLower(s.name))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (im *importer) carries(l *lan, u *uplink) string {
	if l != nil {
		return l.services[0].name
	}
	return u.service.name
}

func (im *importer) lanOn(dev string) *lan {
	for _, l := range im.lans {
		if l.services[0].base() == dev {
			return l
		}
	}
	return nil
}

func (im *importer) uplinkOn(dev string) *uplink {
	for _, u := range im.uplinks {
		if u.service.base() == dev {
			return u
		}
	}
	return nil
}

// uplinkOf is the uplink that somebody names by its service or by its device.
func (im *importer) uplinkOf(word string) *uplink {
	for _, u := range im.uplinks {
		if strings.EqualFold(u.service.name, word) {
			return u
		}
	}
	return im.uplinkOn(word)
}

// lanOf is the lan of a service.
func (im *importer) lanOf(name string) *lan {
	for _, l := range im.lans {
		if slices.ContainsFunc(l.services, func(s *service) bool { return strings.EqualFold(s.name, name) }) {
			return l
		}
	}
	return nil
}

// lanAddress is the virtual address for a service: what somebody said, else what
// the device has now, which is the gateway of its hosts; else a placeholder.
func (im *importer) lanAddress(l *lan, svc *service) address {
	for name, p := range im.in.Lans {
		if strings.EqualFold(name, svc.name) {
			return address{p, "as --lan says"}
		}
	}
	d := im.devices[svc.base()]
	p := d.Address
	if svc.alias() {
		p = d.Labelled[svc.device]
	}
	taken := slices.ContainsFunc(l.virtual, func(a address) bool { return a.prefix == p })
	if p.IsValid() && !taken {
		return address{p, fmt.Sprintf("what %s has now: the hosts keep their gateway", svc.device)}
	}
	n := 1
	for _, other := range im.lans {
		n += len(other.virtual)
	}
	made := config.Placeholders.Addr().As4()
	made[2], made[3] = byte(min(n, 254)), 1
	p = netip.PrefixFrom(netip.AddrFrom4(made), 24)
	im.warn(svc.at, "this machine has no IPv4 address on %s, so the virtual address of lan %s is a placeholder, %s; give the real one with --lan %[2]s=ADDRESS/LENGTH, or write it into the file", svc.device, strings.ToLower(svc.name), p)
	return address{p, fmt.Sprintf("PLACEHOLDER: write the address that the hosts of %s have as gateway", svc.name)}
}
