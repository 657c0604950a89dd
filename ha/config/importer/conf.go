package importer

import (
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// conf is balance.conf as it was read.
type conf struct {
	sheet    *sheet
	services []*service
	failover bool
	mode     place // of mode=; the zero value: not there
	groups   []group
	options  []option // of lsm, in the order of the file
	mail     option
	rows     map[string]bool // names and devices of all rows in small letters, also of those that are wrong
}

// service is a row of the table. Where a column says `default` it is empty.
type service struct {
	at                 place
	name, device, role string
	ping, gateway      string
	weight             float64
	columns            map[string]place // of those that are written
}

// base is the device without the label of an alias (eth0:1).
func (s *service) base() string {
	base, _, _ := strings.Cut(s.device, ":")
	return base
}

func (s *service) alias() bool { return strings.Contains(s.device, ":") }

// group is a forwarding_group line.
type group struct {
	at    place
	words []string
}

// option is any other word=value line.
type option struct {
	at         place
	key, value string
}

var (
	optionLine = regexp.MustCompile(`^\s*(\w+)\s*=\s*(.*?)\s*$`)
	word       = regexp.MustCompile(`\S+`)
	deviceName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,14}(:[A-Za-z0-9._-]{1,15})?$`)
	addressed  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?$`)
)

// Columns of a row behind the role; a word in place of a value means the default.
const unset = "default"

const columns = "service device role ping-ip weight gateway"

func (im *importer) readConf() {
	name := path.Base(im.in.Conf.Path)
	s, ok := im.newSheet(im.in.Conf, name)
	im.conf.sheet = s
	if !ok {
		return
	}
	for i, line := range s.lines {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		// Net-ISP-Balance has no comments behind a value; people write them.
		if at := strings.Index(line, " #"); at >= 0 {
			line = line[:at]
		} else if at := strings.Index(line, "\t#"); at >= 0 {
			line = line[:at]
		}
		if m := optionLine.FindStringSubmatchIndex(line); m != nil {
			im.readOption(s, i+1, line, m)
			continue
		}
		if fields := word.FindAllStringIndex(line, -1); len(fields) > 0 {
			im.readService(s, i+1, line, fields)
		}
	}
	switch n := len(im.conf.services); {
	case im.problems.Err() != nil:
	case n == 0:
		im.fail(place{s, 1, 1}, "there is no service in this file; allowed: rows such as CABLE eth0 isp 192.0.2.1 1 default (%s)", columns)
	}
}

// checkOptions tells what is wrong with the options of a file whose table has
// mistakes, so that all are told at once.
func (im *importer) checkOptions() {
	im.probeSettings()
	for _, g := range im.conf.groups {
		for _, w := range g.words {
			if w != ":isp" && w != ":lan" && !im.conf.rows[strings.ToLower(w)] {
				im.noService(g, w)
			}
		}
	}
}

func (im *importer) noService(g group, word string) {
	im.fail(g.at, "forwarding_group: there is no service %s; allowed: services of the table, :isp and :lan", quoted(word))
}

func (im *importer) readOption(s *sheet, n int, line string, m []int) {
	o := option{key: line[m[2]:m[3]], value: line[m[4]:m[5]], at: s.at(n, m[4])}
	c := &im.conf
	switch o.key {
	case "mode":
		c.mode = o.at
		c.failover = strings.Contains(strings.ToLower(o.value), "failover")
		if v := strings.ToLower(o.value); v != "failover" && v != "balanced" {
			meant := "balanced"
			if c.failover {
				meant = "failover"
			}
			im.warn(o.at, "mode: %s is neither balanced nor failover; Net-ISP-Balance takes it for %s, and so does this", quoted(o.value), meant)
		}
	case "forwarding_group":
		words := strings.Fields(o.value)
		if len(words) == 0 {
			im.fail(o.at, "forwarding_group: nothing stands here; allowed: services, :isp and :lan")
			return
		}
		c.groups = append(c.groups, group{o.at, words})
	case "warn_email":
		c.mail = o
	default:
		c.options = append(c.options, o)
	}
}

func (im *importer) readService(s *sheet, n int, line string, fields [][]int) {
	names := strings.Fields(columns)
	svc := &service{at: s.at(n, fields[0][0]), columns: map[string]place{}, weight: 1}
	value := map[string]string{}
	for i, f := range fields {
		if i == len(names) {
			im.warn(s.at(n, f[0]), "more than six columns; Net-ISP-Balance reads no further, nor does this (%s)", columns)
			break
		}
		if text := line[f[0]:f[1]]; i < 3 || text != unset {
			value[names[i]], svc.columns[names[i]] = text, s.at(n, f[0])
		}
	}
	if fields[0][0] > 0 {
		im.warn(svc.at, "a blank before the first word: Net-ISP-Balance leaves such a row out, here it counts")
	}
	svc.name, svc.device, svc.role = value["service"], value["device"], value["role"]
	svc.ping, svc.gateway = value["ping-ip"], value["gateway"]
	if im.conf.rows == nil {
		im.conf.rows = map[string]bool{}
	}
	im.conf.rows[strings.ToLower(svc.name)], im.conf.rows[strings.ToLower(svc.device)] = true, true
	switch {
	case len(fields) < 3:
		im.fail(svc.at, "a row needs at least a service, its device and its role; allowed: %s", columns)
		return
	case svc.name == "up" || svc.name == "down":
		im.fail(svc.at, "a service cannot be called %s; allowed: another name", svc.name)
		return
	case svc.role != "isp" && svc.role != "lan":
		im.warn(svc.columns["role"], "the role %s is neither isp nor lan; Net-ISP-Balance leaves such a row out, and so does this", quoted(svc.role))
		return
	}
	if len(im.conf.services) == maxServices {
		im.fail(svc.at, "one service too many; allowed: %d", maxServices)
		return
	}
	if i := slices.IndexFunc(im.conf.services, func(o *service) bool { return strings.EqualFold(o.name, svc.name) }); i >= 0 {
		im.fail(svc.at, "the service %s stands twice (first in line %d); allowed: once (capitals make no difference)", quoted(svc.name), im.conf.services[i].at.line)
		return
	}
	im.checkService(svc, value["weight"])
	im.conf.services = append(im.conf.services, svc)
}

// maxServices is more than lans and lines together.
const maxServices = 400

// maxWeight is more than anybody writes, and far from what a float64 rounds.
const maxWeight = 1e9

func (im *importer) checkService(svc *service, weight string) {
	if !deviceName.MatchString(svc.device) {
		im.fail(svc.columns["device"], "%s cannot be the name of a device; allowed: one such as eth0, ppp0 or eth0:1", quoted(svc.device))
	}
	if svc.role == "lan" {
		return // the other columns are for lines
	}
	if svc.ping != "" && !addressed.MatchString(svc.ping) {
		if _, err := netip.ParseAddr(svc.ping); err != nil {
			im.fail(svc.columns["ping-ip"], "%s is no host that could be pinged; allowed: an IP address, a name, or default", quoted(svc.ping))
		}
	}
	if weight != "" {
		w, err := strconv.ParseFloat(weight, 64)
		if err != nil || !(w >= 0 && w <= maxWeight) {
			im.fail(svc.columns["weight"], "%s is no weight; allowed: a number such as 1 or 2, or default", quoted(weight))
		}
		svc.weight = w
	}
	if svc.gateway != "" {
		if _, err := netip.ParseAddr(svc.gateway); err != nil {
			im.fail(svc.columns["gateway"], "%s is no IP address; allowed: one such as 203.0.113.1, or default", quoted(svc.gateway))
		}
	}
}
