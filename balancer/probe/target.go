package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// Method is what a target is asked, and what counts as its answer. The rule of
// all of them: the line lives when the target says something, also that it does
// not want to; not when it says that it cannot, or says nothing to the purpose.
type Method uint8

const (
	// ICMP sends an echo request; the echo reply counts.
	ICMP Method = iota
	// TCP connects. A connection and a refusal (RST) both count: the host
	// answers. A firewall on the way may refuse in the host's name, so a port
	// that is open tells more.
	TCP
	// DNS asks for a name over UDP. An answer with our id and question counts,
	// also that there is no such name (NXDOMAIN) and that we may not ask
	// (REFUSED), but not SERVFAIL: a resolver says that when its own way to the
	// world is cut.
	DNS
	// HTTP gets a URL; a status below 500 counts, redirects are not followed.
	// With https the certificate must be right, which finds out a captive
	// portal, and a clock that is years off.
	HTTP
	// ARP asks who has the address on the uplink's own segment.
	ARP
)

func (m Method) String() string {
	switch m {
	case ICMP:
		return "icmp"
	case TCP:
		return "tcp"
	case DNS:
		return "dns"
	case HTTP:
		return "http"
	case ARP:
		return "arp"
	}
	return fmt.Sprintf("Method(%d)", uint8(m))
}

// The ports that are asked where a target names none.
const (
	tcpPort = 443 // what public name servers listen on too
	dnsPort = 53
)

// Target is a host beyond the uplink that is asked.
type Target struct {
	Address netip.Addr
	Method  Method
	Port    uint16 // of TCP and DNS; 0: 443 and 53
	URL     string // of HTTP: where its host is not the Address, that is only the name in the request; "": http://Address/
	Name    string // of DNS, asked for its A record; "": the name servers of the root
}

func (t Target) port() uint16 {
	switch {
	case t.Port != 0:
		return t.Port
	case t.Method == DNS:
		return dnsPort
	}
	return tcpPort
}

// String names the target in the reason of a bad round.
func (t Target) String() string {
	switch t.Method {
	case TCP, DNS:
		return fmt.Sprintf("%v %v", t.Method, netip.AddrPortFrom(t.Address, t.port()))
	case HTTP:
		if t.URL == "" {
			return fmt.Sprintf("http %v", t.Address)
		}
		return short(fmt.Sprintf("%s at %v", t.URL, t.Address))
	case ARP:
		return fmt.Sprintf("arp %v", t.Address)
	}
	return t.Address.String()
}

// ask asks the target once from source, with the mark set, until ctx ends.
// answered is called with the round trip when it has answered. An error says
// why there can be no answer any more; it is nil when there was one and when
// ctx ended first. ARP is not asked here: see uplink.send.
func (t Target) ask(ctx context.Context, source netip.Addr, mark uint32, answered func(time.Duration)) error {
	if t.Method == ICMP {
		return ping(ctx, source, t.Address, mark, answered)
	}
	var rtt time.Duration
	var err error
	d := dialer{source: source, mark: mark}
	switch t.Method {
	case TCP:
		rtt, err = connect(ctx, d, t)
	case DNS:
		rtt, err = query(ctx, d, t)
	case HTTP:
		rtt, err = get(ctx, d, t)
	default:
		err = fmt.Errorf("%v cannot be asked", t.Method)
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		answered(rtt)
		return nil
	}
	var errno syscall.Errno
	if errors.As(err, &errno) { // what net puts around it repeats the addresses
		err = errno
	}
	return fmt.Errorf("%v from %v: %s", t, source, short(err.Error()))
}

// longest is how much of a text from outside, in bytes, goes into a reason:
// those are gossiped, and a certificate may name hundreds of hosts.
const longest = 120

// short makes a text fit into a reason.
func short(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
	if len(s) <= longest {
		return s
	}
	return strings.ToValidUTF8(s[:longest], "") + " …"
}
