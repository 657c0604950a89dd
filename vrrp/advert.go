package vrrp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Version is the VRRP version of an advert.
type Version uint8

const (
	Version2 Version = 2 // RFC 3768, IPv4 only
	Version3 Version = 3 // RFC 9568
)

const (
	typeAdvertisement = 1
	headerLen         = 8 // bytes before the address list
	authLen           = 8 // bytes behind the address list, version 2 only
	authNone          = 0 // RFC 3768 §5.3.6
	authPassword      = 1 // RFC 2338 §5.3.6.2; 2 was a digest, and nobody has it any more
	tick              = 10 * time.Millisecond
	// MaxInterval is the longest interval that version 3 can express (12 bits
	// of centiseconds).
	MaxInterval = 0xfff * tick
	// MaxAddresses is how many addresses one advert can list (8 bits).
	MaxAddresses = 255
	// Owner is the priority of the router whose own addresses the virtual ones
	// are (RFC 9568 §5.2.4).
	Owner uint8 = 255
	// MaxPassword is how many bytes a password of version 2 can have.
	MaxPassword = authLen
)

// Groups that adverts are sent to (RFC 9568 §5.1.1.2, §5.1.2.2).
var (
	Group4 = netip.AddrFrom4([4]byte{224, 0, 0, 18})
	Group6 = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x12})
)

// Advert is one VRRP ADVERTISEMENT.
type Advert struct {
	Version   Version
	VRID      uint8         // 1…255
	Priority  uint8         // 0 leaving, 255 owner
	Interval  time.Duration // of the sender; see CheckInterval
	Addresses []netip.Addr  // 1…255, of one family
	// Password is that of version 2, "" none. It goes over the wire as it is and
	// keeps nobody out who can listen there.
	Password string
}

// CheckInterval says why a version cannot express an interval: version 3 counts
// in steps of 10 ms up to MaxInterval, version 2 in whole seconds up to 255.
func CheckInterval(v Version, d time.Duration) error {
	step, limit := tick, MaxInterval
	if v == Version2 {
		step, limit = time.Second, 255*time.Second
	}
	if d < step || d > limit || d%step != 0 {
		return fmt.Errorf("interval %v: version %d allows %v to %v in steps of %v", d, v, step, limit, step)
	}
	return nil
}

// CheckPassword says why a version cannot carry a password: version 2 alone has
// one, of at most 8 bytes, and it ends at the first zero. "" always passes.
func CheckPassword(v Version, password string) error {
	switch {
	case password == "":
		return nil
	case v != Version2:
		return fmt.Errorf("version %d has no passwords", v)
	case len(password) > MaxPassword:
		return fmt.Errorf("a password of %d bytes, version 2 has room for %d", len(password), MaxPassword)
	case strings.IndexByte(password, 0) >= 0:
		return errors.New("a password with a zero byte in it")
	}
	return nil
}

// Append appends the message, without IP header, with the checksum for a
// packet from src to dst. The form is heeded for version 3 over IPv4 only, the
// others have just one. It is an error if the advert cannot be expressed.
func (a Advert) Append(b []byte, src, dst netip.Addr, form Checksum) ([]byte, error) {
	if a.Version != Version2 && a.Version != Version3 {
		return nil, fmt.Errorf("write advert: version %d, want 2 or 3", a.Version)
	}
	if a.VRID == 0 {
		return nil, fmt.Errorf("write advert: virtual router id 0")
	}
	if n := len(a.Addresses); n == 0 || n > MaxAddresses {
		return nil, fmt.Errorf("write advert: %d addresses, want 1 to %d", n, MaxAddresses)
	}
	if err := CheckInterval(a.Version, a.Interval); err != nil {
		return nil, fmt.Errorf("write advert: %w", err)
	}
	if !src.IsValid() || src.BitLen() != dst.BitLen() || a.Version == Version2 && !src.Is4() {
		return nil, fmt.Errorf("write advert: version %d from %v to %v", a.Version, src, dst)
	}
	if err := CheckPassword(a.Version, a.Password); err != nil {
		return nil, fmt.Errorf("write advert: %w", err)
	}
	start := len(b)
	b = append(b, byte(a.Version)<<4|typeAdvertisement, a.VRID, a.Priority, byte(len(a.Addresses)))
	if a.Version == Version2 {
		authentication := byte(authNone)
		if a.Password != "" {
			authentication = authPassword
		}
		b = append(b, authentication, byte(a.Interval/time.Second))
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(a.Interval/tick))
	}
	b = append(b, 0, 0)
	for i, addr := range a.Addresses {
		if err := a.listable(i, addr, src); err != nil {
			return nil, fmt.Errorf("write advert: %w", err)
		}
		if src.Is4() {
			b4 := addr.As4()
			b = append(b, b4[:]...)
		} else {
			b16 := addr.As16()
			b = append(b, b16[:]...)
		}
	}
	if a.Version == Version2 {
		var data [authLen]byte // of zeros where there is no password: they are part of the message
		copy(data[:], a.Password)
		b = append(b, data[:]...)
	}
	binary.BigEndian.PutUint16(b[start+6:], checksum(b[start:], src, dst, usual(a.Version, src, form)))
	return b, nil
}

// listable says why an address cannot stand at position i of an advert from src.
func (a Advert) listable(i int, addr, src netip.Addr) error {
	switch {
	case addr.BitLen() != src.BitLen():
		return fmt.Errorf("%v in an advert from %v", addr, src)
	case i == 0 && addr.Is6() && !addr.IsLinkLocalUnicast():
		return fmt.Errorf("the first address %v is not link-local", addr) // RFC 9568 erratum 8300
	}
	return nil
}

// Parse reads the message of a packet from src to dst and checks what needs no
// settings; TTL, VRID and sender are others' to judge, and Terms the rest. Both forms of checksum are taken; the one found is told.
// Bytes behind the message are ignored (Ethernet padding; RFC 9568 §7.1 asks
// for a complete message, not for an exact one). The error is a *DropError.
func Parse(b []byte, src, dst netip.Addr) (Advert, Checksum, error) {
	if len(b) < headerLen {
		return Advert{}, 0, drop(DropLength, "%d bytes, a header has %d", len(b), headerLen)
	}
	version := Version(b[0] >> 4)
	if version != Version2 && version != Version3 {
		return Advert{}, 0, drop(DropVersion, "version %d, want 2 or 3", version)
	}
	if typ := b[0] & 0xf; typ != typeAdvertisement {
		return Advert{}, 0, drop(DropType, "type %d, want %d", typ, typeAdvertisement)
	}
	if isCARP(b) {
		return Advert{}, 0, drop(DropCARP, "virtual host %d", b[1])
	}
	if !src.IsValid() || src.BitLen() != dst.BitLen() || version == Version2 && !src.Is4() {
		return Advert{}, 0, drop(DropFamily, "version %d from %v to %v", version, src, dst)
	}
	count := int(b[3])
	if count == 0 {
		return Advert{}, 0, drop(DropCount, "it lists no address") // RFC 9568 erratum 8299
	}
	size := src.BitLen() / 8
	length := headerLen + count*size
	if version == Version2 {
		length += authLen
	}
	if len(b) < length {
		return Advert{}, 0, drop(DropLength, "%d bytes, %d addresses need %d", len(b), count, length)
	}
	b = b[:length]
	form := usual(version, src, ChecksumPseudo)
	if !verify(b, src, dst, form) {
		form = usual(version, src, ChecksumPlain)
		if !verify(b, src, dst, form) {
			return Advert{}, 0, drop(DropChecksum, "%#04x does not fit", binary.BigEndian.Uint16(b[6:]))
		}
	}
	a := Advert{Version: version, VRID: b[1], Priority: b[2], Addresses: make([]netip.Addr, 0, count)}
	if version == Version2 {
		switch b[4] {
		case authNone: // whatever stands for its data
		case authPassword:
			password, _, _ := bytes.Cut(b[length-authLen:], []byte{0})
			if len(password) == 0 {
				return Advert{}, 0, drop(DropAuthentication, "a password that is empty")
			}
			a.Password = string(password)
		default:
			return Advert{}, 0, drop(DropAuthentication, "authentication type %d, want 0 or 1", b[4])
		}
		a.Interval = time.Duration(b[5]) * time.Second
	} else {
		// The upper four bits are reserved and ignored (RFC 9568 §5.2.6).
		a.Interval = time.Duration(binary.BigEndian.Uint16(b[4:])&0xfff) * tick
	}
	if a.Interval == 0 { // it would make a backup's patience end at once
		return Advert{}, 0, drop(DropInterval, "interval 0") // RFC 9568 erratum 8301
	}
	for list := b[headerLen : headerLen+count*size]; len(list) > 0; list = list[size:] {
		addr, _ := netip.AddrFromSlice(list[:size])
		if err := a.listable(len(a.Addresses), addr, src); err != nil {
			return Advert{}, 0, drop(DropFamily, "%v", err)
		}
		a.Addresses = append(a.Addresses, addr)
	}
	return a, form, nil
}

const (
	carpLen  = 36
	carpAuth = 7 // 32 bit words of counter and digest
)

// isCARP tells CARP from version 2 of VRRP, whose number, version and type it
// took (ip_carp.h): it is too short for the seven addresses that it seems to
// list, and has the same length always.
func isCARP(b []byte) bool {
	return Version(b[0]>>4) == Version2 && b[3] == carpAuth && len(b) == carpLen
}
