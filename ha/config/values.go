package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The functions here read one value each. Their errors say what is wrong and
// what is allowed; the caller adds path and position.

// errIPv6 is what IPv6 meets where there is no data path for it.
var errIPv6 = errors.New("IPv4 only: this is IPv6; allowed: an IPv4 address")

type integer interface {
	~int | ~uint8 | ~uint16 | ~uint32
}

func plain(v *value, allowed string) (string, error) {
	switch {
	case v.kind != scalar:
		return "", fmt.Errorf("%s stands here; allowed: %s", v.kind, allowed)
	case v.quoted:
		return "", fmt.Errorf("%s is a text in quotes; allowed: %s, without quotes", quote(v.text), allowed)
	}
	return v.text, nil
}

func written(v *value, allowed string) (string, error) {
	if v.kind != scalar {
		return "", fmt.Errorf("%s stands here; allowed: %s", v.kind, allowed)
	}
	return v.text, nil
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// number is a whole number, lo and hi included.
func number[T integer](lo, hi T) func(*value) (T, error) {
	allowed := fmt.Sprintf("a whole number from %d to %d", lo, hi)
	return func(v *value) (T, error) {
		s, err := plain(v, allowed)
		if err != nil {
			return 0, err
		}
		if !decimal.MatchString(s) {
			return 0, fmt.Errorf("%s is no whole number; allowed: %d to %d", quote(s), lo, hi)
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < int64(lo) || n > int64(hi) {
			return 0, fmt.Errorf("%s is out of range; allowed: %d to %d", s, lo, hi)
		}
		return T(n), nil
	}
}

// mask is 32 bits, in hex or decimal.
func mask(v *value) (Mask, error) {
	const allowed = "one run of bits such as 0x3f00"
	s, err := plain(v, allowed)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is no mask of 32 bits; allowed: %s", quote(s), allowed)
	}
	m := Mask(n)
	if !m.contiguous() {
		return 0, fmt.Errorf("%s is not one run of bits without a gap; allowed: %s", s, allowed)
	}
	return m, nil
}

func boolean(v *value) (bool, error) {
	s, err := plain(v, "true or false")
	if err != nil {
		return false, err
	}
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%s is not understood here; allowed: true or false", quote(s))
}

// duration is a time with its unit, lo and hi included, in steps of step.
func duration(lo, hi, step time.Duration) func(*value) (time.Duration, error) {
	allowed := fmt.Sprintf("%s to %s", showDuration(lo), showDuration(hi))
	if step > time.Millisecond {
		allowed += " in steps of " + showDuration(step)
	}
	return func(v *value) (time.Duration, error) {
		s, err := plain(v, "a time with its unit, "+allowed)
		if err != nil {
			return 0, err
		}
		d, err := time.ParseDuration(s)
		switch {
		case err != nil && decimal.MatchString(s):
			return 0, fmt.Errorf("%s lacks its unit (ms, s, m, h); allowed: %s", s, allowed)
		case err != nil:
			return 0, fmt.Errorf("%s is no time such as 100ms, 2s or 10m; allowed: %s", quote(s), allowed)
		case d < lo || d > hi:
			return 0, fmt.Errorf("%s is out of range; allowed: %s", s, allowed)
		case d%step != 0:
			return 0, fmt.Errorf("%s is not in steps of %s; allowed: %s", s, showDuration(step), allowed)
		}
		return d, nil
	}
}

// oneOf is one of a few words.
func oneOf[T ~string](choices ...T) func(*value) (T, error) {
	var words []string
	for _, c := range choices {
		words = append(words, string(c))
	}
	return func(v *value) (T, error) {
		s, err := written(v, join(words))
		if err != nil {
			return "", err
		}
		if !contains(words, s) {
			return "", fmt.Errorf("%s is not known here%s; allowed: %s", quote(s), didYouMean(s, words), join(words))
		}
		return T(s), nil
	}
}

var nameSyntax = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// name is that of a cluster, node, lan, uplink, policy.
func name(longest int) func(*value) (string, error) {
	allowed := fmt.Sprintf("1 to %d characters of a-z 0-9 . _ - with a letter or digit first", longest)
	return func(v *value) (string, error) {
		s, err := written(v, allowed)
		if err == nil && (!nameSyntax.MatchString(s) || len(s) > longest) {
			err = fmt.Errorf("%s cannot be a name; allowed: %s", quote(s), allowed)
		}
		return s, err
	}
}

const maxName, maxHostName = 32, 63

var deviceSyntax = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@+-]*$`)

// device is the name of a network device.
func device(v *value) (string, error) {
	const allowed = "1 to 15 characters of A-Z a-z 0-9 . _ - + @"
	s, err := written(v, allowed)
	if err == nil && (!deviceSyntax.MatchString(s) || len(s) > 15) {
		err = fmt.Errorf("%s cannot be the name of a device; allowed: %s", quote(s), allowed)
	}
	return s, err
}

// text is any text of one line.
func text(longest int) func(*value) (string, error) {
	allowed := fmt.Sprintf("a text of 1 to %d characters", longest)
	return func(v *value) (string, error) {
		s, err := written(v, allowed)
		if err == nil && (s == "" || len(s) > longest || strings.ContainsAny(s, "\n\x00")) {
			err = fmt.Errorf("%s does not fit; allowed: %s in one line", quote(s), allowed)
		}
		return s, err
	}
}

// Fraction is a share, 0 to 1. The file writes it in percent.
type Fraction float64

func (f Fraction) String() string {
	return strconv.FormatFloat(math.Round(float64(f)*1e8)/1e6, 'f', -1, 64) + "%"
}

func fraction(v *value) (Fraction, error) {
	const allowed = "0% to 100%"
	s, err := plain(v, allowed)
	if err != nil {
		return 0, err
	}
	bare, ok := strings.CutSuffix(s, "%")
	p, err := strconv.ParseFloat(bare, 64)
	if !ok || err != nil || !(p >= 0 && p <= 100) {
		return 0, fmt.Errorf("%s is no percentage; allowed: %s", quote(s), allowed)
	}
	return Fraction(p / 100), nil
}

// BitRate is in bits per second.
type BitRate uint64

var rateUnits = map[string]float64{"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}

func bitRate(v *value) (BitRate, error) {
	const allowed = "a number with its unit such as 512kbit, 100mbit, 2.5gbit"
	s, err := plain(v, allowed)
	if err != nil {
		return 0, err
	}
	if len(s) > 4 {
		n, err := strconv.ParseFloat(s[:len(s)-4], 64)
		if unit := rateUnits[s[len(s)-4:]]; err == nil && unit > 0 && n > 0 && n*unit <= 1e15 {
			return BitRate(math.Round(n * unit)), nil
		}
	}
	return 0, fmt.Errorf("%s is no rate; allowed: %s", quote(s), allowed)
}

// host is the IP address of one machine.
func host(v *value) (netip.Addr, error) {
	return address(v, "an IP address such as 192.0.2.1 or fd00::1")
}

// host4 is the like where IPv6 has no data path yet.
func host4(v *value) (netip.Addr, error) {
	a, err := address(v, "an IPv4 address such as 192.0.2.1")
	if err == nil && a.Is6() {
		err = errIPv6
	}
	return a, err
}

func address(v *value, allowed string) (netip.Addr, error) {
	s, err := written(v, allowed)
	if err != nil {
		return netip.Addr{}, err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		if p, err := netip.ParsePrefix(s); err == nil {
			return netip.Addr{}, fmt.Errorf("%s has a prefix length; allowed: an address alone, %s", s, p.Addr())
		}
		return netip.Addr{}, fmt.Errorf("%s is no IP address; allowed: %s", quote(s), allowed)
	}
	return a, hostAddress(a)
}

func hostAddress(a netip.Addr) error {
	allowed := "the IPv4 address of one machine, such as 192.0.2.1"
	if a.Is6() {
		allowed = "the IPv6 address of one machine, such as fd00::1"
	}
	switch {
	case a.Is4In6():
		return fmt.Errorf("%s is an IPv4 address in other clothes; allowed: %s", a, a.Unmap())
	case a.Zone() != "":
		return fmt.Errorf("%s names a device; allowed: the address alone, %s", a, a.WithZone(""))
	case a.IsMulticast():
		return fmt.Errorf("%s is a multicast address; allowed: %s", a, allowed)
	case a.IsUnspecified(), a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240):
		return fmt.Errorf("%s is no address of a machine; allowed: %s", a, allowed)
	}
	return nil
}

// nodeAddress is one that other nodes reach without being told a device.
func nodeAddress(a netip.Addr) error {
	if a.Is6() && a.IsLinkLocalUnicast() {
		return fmt.Errorf("%s is good on one link only; allowed: an address that is good everywhere, such as fd00::1", a)
	}
	return hostAddress(a)
}

// virtual is an address of a machine with its prefix length.
func virtual(v *value) (netip.Prefix, error) {
	const allowed = "an address with its prefix length, such as 192.168.77.1/24 or 2001:db8::1/64"
	s, err := written(v, allowed)
	if err != nil {
		return netip.Prefix{}, err
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
			length := 24
			if a.Is6() {
				length = 64
			}
			return netip.Prefix{}, fmt.Errorf("%s lacks its prefix length; allowed: %s/%d or the like", s, s, length)
		}
		return netip.Prefix{}, fmt.Errorf("%s is no address with a prefix length; allowed: %s", quote(s), allowed)
	}
	a := p.Addr()
	if err := hostAddress(a); err != nil {
		return netip.Prefix{}, err
	}
	most := a.BitLen()
	switch {
	case p.Bits() < 8:
		return netip.Prefix{}, fmt.Errorf("%s: a prefix length of %d; allowed: 8 to %d", s, p.Bits(), most)
	case a.IsLoopback() || a.Is4() && a.IsLinkLocalUnicast():
		return netip.Prefix{}, fmt.Errorf("%s cannot be shared (127.0.0.0/8, 169.254.0.0/16 and ::1 stay on one machine); allowed: %s", s, allowed)
	case a.IsLinkLocalUnicast() && p.Bits() != 64 && p.Bits() != most:
		return netip.Prefix{}, fmt.Errorf("%s: a prefix length of %d; allowed: 64, as all link-local addresses have it", s, p.Bits())
	case p.Bits() < most-1 && a == p.Masked().Addr():
		return netip.Prefix{}, fmt.Errorf("%s is the network itself; allowed: the address of a machine in it", s)
	case a.Is4() && p.Bits() < 31 && a == lastAddress(p):
		return netip.Prefix{}, fmt.Errorf("%s is the broadcast address of its network; allowed: the address of a machine in it", s)
	}
	return p, nil
}

func lastAddress(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(a)
}

// network is a prefix of either family; an address alone is one of full length.
func network(v *value) (netip.Prefix, error) {
	const allowed = "a network such as 10.0.0.0/8"
	s, err := written(v, allowed)
	if err != nil {
		return netip.Prefix{}, err
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s is no network; allowed: %s", quote(s), allowed)
	}
	return p.Masked(), nil
}

// listOf is a list; every bad item is told.
func listOf[T any](item func(*value) (T, error)) func(*value) ([]T, error) {
	return func(v *value) ([]T, error) {
		if v.kind != list {
			return nil, fmt.Errorf("%s stands here; allowed: a list such as [a, b]", v.kind)
		}
		var all []T
		var errs []error
		for _, i := range v.items {
			got, err := item(i)
			if err != nil {
				errs = append(errs, &badValue{i, err})
				continue
			}
			all = append(all, got)
		}
		return all, errors.Join(errs...)
	}
}

// oneOrMore is a value or a list of them.
func oneOrMore[T any](item func(*value) (T, error)) func(*value) ([]T, error) {
	return func(v *value) ([]T, error) {
		if v.kind != list {
			v = &value{kind: list, items: []*value{v}}
		}
		return listOf(item)(v)
	}
}
