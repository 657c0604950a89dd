package importer

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// rule is one iptables command.
type rule struct {
	at           place
	line         string // as it is shown
	table        string
	op           byte // A, I, D; another letter: no rule
	chain, jump  string
	in, out      string
	protocol     string
	source, dest []term
	sports       []string
	dports       []term
	mac          []term
	dscp         []term
	limit        string
	states       string
	to           string // of DNAT and SNAT
	not          bool   // of in, out or the protocol
}

// term is a value, or everything but it.
type term struct {
	not  bool
	text string
}

// flags of iptables: how many words follow, and the short form.
var iptablesLong = map[string]string{
	"--table": "-t", "--append": "-A", "--insert": "-I", "--delete": "-D", "--protocol": "-p", "--proto": "-p", "--source": "-s", "--src": "-s",
	"--destination": "-d", "--dst": "-d", "--in-interface": "-i", "--out-interface": "-o", "--jump": "-j", "--match": "-m", "--source-port": "--sport",
	"--destination-port": "--dport", "--source-ports": "--sports", "--destination-ports": "--dports", "--ctstate": "--state", "--to": "--to-destination",
	"--wait": "-w", "--ipv4": "-4", "--check": "-C", "--policy": "-P", "--flush": "-F", "--new-chain": "-N", "--delete-chain": "-X",
}

// parseRule reads the words behind iptables.
func parseRule(words []string) (*rule, error) {
	r := &rule{table: "filter"}
	not := false
	for i := 0; i < len(words); i++ {
		w := words[i]
		if long, ok := iptablesLong[w]; ok {
			w = long
		}
		if w == "!" {
			not = true
			continue
		}
		arg := func() string {
			if i+1 < len(words) {
				i++
				if words[i] == "!" && i+1 < len(words) { // the old way: -s ! NET
					not = true
					i++
				}
				return words[i]
			}
			return ""
		}
		if err := r.flag(w, arg, &not); err != nil {
			return nil, err
		}
		not = false
		if (w == "-I" || w == "-D") && i+1 < len(words) && isNumber(words[i+1]) {
			if w == "-D" {
				return nil, errors.New("the deletion of a rule by its number")
			}
			i++
		}
	}
	if r.chain == "" {
		return nil, errors.New("no rule of a chain")
	}
	return r, nil
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

func (r *rule) flag(w string, arg func() string, not *bool) error {
	switch w {
	case "-4", "-w", "--syn", "-n", "-v":
		if *not {
			return fmt.Errorf("! %s", w)
		}
	case "-t":
		r.table = arg()
	case "-A", "-I", "-D":
		r.op, r.chain = w[1], arg()
	case "-j", "-g":
		r.jump = arg()
	case "-i":
		r.in = arg()
		r.not = r.not || *not
	case "-o":
		r.out = arg()
		r.not = r.not || *not
	case "-p":
		r.protocol = strings.ToLower(arg())
		r.not = r.not || *not
		if r.protocol == "all" {
			r.protocol = ""
		}
	case "-s", "-d":
		return r.networks(w, arg, not)
	case "--sport", "--sports", "--dport", "--dports":
		return r.ports(w, arg, not)
	case "--mac-source":
		r.mac = append(r.mac, term{*not, strings.ToLower(arg())})
	case "--dscp":
		r.dscp = append(r.dscp, term{*not, arg()})
	case "--state":
		r.states = strings.ToUpper(arg())
		if *not {
			return errors.New("! --state")
		}
	case "--limit":
		r.limit = arg()
	case "--limit-burst", "--comment", "--log-level", "--log-prefix", "--reject-with", "--icmp-type", "--set-mark":
		arg()
	case "--to-destination", "--to-source":
		r.to = arg()
	case "-m":
		if m := arg(); !slices.Contains([]string{"state", "conntrack", "tcp", "udp", "multiport", "limit", "comment", "mac", "dscp", "icmp"}, m) {
			return fmt.Errorf("-m %s", m)
		}
	case "--tcp-flags":
		mask, set := arg(), arg()
		if !(set == "SYN" && !*not) {
			return fmt.Errorf("--tcp-flags %s %s", mask, set)
		}
	default:
		return errors.New(w)
	}
	return nil
}

func (r *rule) networks(w string, arg func() string, not *bool) error {
	list := &r.source
	if w == "-d" {
		list = &r.dest
	}
	for s := range strings.SplitSeq(arg(), ",") {
		p, err := network(s)
		if err != nil {
			return fmt.Errorf("%s %s", w, s)
		}
		*list = append(*list, term{*not, p})
	}
	return nil
}

// network is an address or a network as our file writes it.
func network(s string) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		return a.String(), nil
	}
	if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is4() {
		return p.Masked().String(), nil
	}
	addr, mask, _ := strings.Cut(s, "/")
	a, err1 := netip.ParseAddr(addr)
	m, err2 := netip.ParseAddr(mask)
	if err1 != nil || err2 != nil || !a.Is4() || !m.Is4() {
		return "", fmt.Errorf("%s is no network", quoted(s))
	}
	bits, four := 0, m.As4()
	for bits < 32 && four[bits/8]&(0x80>>(bits%8)) != 0 {
		bits++
	}
	p := netip.PrefixFrom(a, bits)
	for i := bits; i < 32; i++ {
		if four[i/8]&(0x80>>(i%8)) != 0 {
			return "", fmt.Errorf("%s has a mask with gaps", quoted(s))
		}
	}
	return p.Masked().String(), nil
}

// services of /etc/services that people write into firewall rules.
var services = map[string]int{
	"ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "tftp": 69, "http": 80, "www": 80, "kerberos": 88, "pop3": 110, "ntp": 123, "imap": 143,
	"imap2": 143, "snmp": 161, "ldap": 389, "https": 443, "smtps": 465, "submissions": 465, "isakmp": 500, "submission": 587, "ldaps": 636, "imaps": 993,
	"pop3s": 995, "openvpn": 1194, "ms-wbt-server": 3389, "ipsec-nat-t": 4500, "sip": 5060, "xmpp-client": 5222, "mysql": 3306, "postgresql": 5432,
}

// port is a port or a range as our file writes it: iptables has 1000:2000.
func port(s string) (string, error) {
	from, to, isRange := strings.Cut(s, ":")
	if !isRange {
		from, to, isRange = strings.Cut(s, "-")
		if _, known := services[s]; known {
			from, isRange = s, false
		}
	}
	one := func(s, open string) (int, error) {
		if s == "" {
			s = open
		}
		if n, ok := services[strings.ToLower(s)]; ok {
			return n, nil
		}
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			return 0, fmt.Errorf("%s is no port that this knows", quoted(s))
		}
		return int(n), nil
	}
	first, err := one(from, "1")
	if err != nil || !isRange {
		return strconv.Itoa(first), err
	}
	last, err := one(to, "65535")
	if err == nil && last < first {
		err = fmt.Errorf("%s is no range of ports", quoted(s))
	}
	return fmt.Sprintf("%d-%d", first, last), err
}

func (r *rule) ports(w string, arg func() string, not *bool) error {
	for s := range strings.SplitSeq(arg(), ",") {
		p, err := port(s)
		if err != nil {
			return fmt.Errorf("%s %s", w, s)
		}
		switch {
		case w[2] == 'd':
			r.dports = append(r.dports, term{*not, p})
		case *not:
			return fmt.Errorf("! %s", w)
		default:
			r.sports = append(r.sports, p)
		}
	}
	return nil
}

// terms are a value or a list for our file.
func terms(key string, list []term) string {
	if len(list) == 0 {
		return ""
	}
	words := make([]string, len(list))
	for i, t := range list {
		if words[i] = t.text; t.not {
			words[i] = "{not: " + t.text + "}"
		}
	}
	return key + ": [" + strings.Join(words, ", ") + "]"
}

// several tells of a list of more than one that is negated: our terms are joined
// by or.
func several(list []term) bool { return len(list) > 1 && list[0].not }
