package vrrp

import "fmt"

// DropReason names why a packet was refused; it is also the label of the
// counter in status.
type DropReason string

const (
	DropTTL      DropReason = "ttl"      // TTL or hop limit is not 255 (RFC 9568 §5.1.1.3)
	DropVersion  DropReason = "version"  // neither of the versions known here, or not the configured one
	DropCARP     DropReason = "carp"     // the other protocol with this number (OpenBSD, FreeBSD, OPNsense)
	DropType     DropReason = "type"     // not an ADVERTISEMENT
	DropLength   DropReason = "length"   // shorter than its address list needs
	DropCount    DropReason = "count"    // no address in it
	DropInterval DropReason = "interval" // interval of 0; in version 2 any other than ours (RFC 3768 §7.1)
	DropChecksum DropReason = "checksum" // neither form of checksum fits
	DropFamily   DropReason = "family"   // first IPv6 address is not link-local, or mixed families
	DropSender   DropReason = "sender"   // neither a node nor in vrrp.foreign
	DropForged   DropReason = "forged"   // claims to come from a peer that denies it
	DropFlood    DropReason = "flood"    // good by itself, but one source sends too many a second

	DropAuthentication DropReason = "authentication" // version 2 with another password than ours, or a digest
)

// DropError says why Parse refused a packet.
type DropError struct {
	Reason DropReason
	Detail string
}

func (e *DropError) Error() string {
	return fmt.Sprintf("read advert: %s: %s", e.Reason, e.Detail)
}

func drop(r DropReason, format string, args ...any) error {
	return &DropError{Reason: r, Detail: fmt.Sprintf(format, args...)}
}
