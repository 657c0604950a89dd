package vrrp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Protocol is VRRP's IP protocol number.
const Protocol = 112

// Checksum is the form of checksum of an IPv4 version 3 advert. RFC 9568
// §5.2.8 has no pseudo-header there; keepalived and FRR send one all the same.
// IPv6 always has it, version 2 never.
type Checksum uint8

const (
	ChecksumPseudo Checksum = iota // over pseudo-header and message
	ChecksumPlain                  // over the message alone
)

func (c Checksum) String() string {
	switch c {
	case ChecksumPseudo:
		return "pseudo"
	case ChecksumPlain:
		return "plain"
	}
	return fmt.Sprintf("checksum(%d)", uint8(c))
}

// usual is the form that a version has in a family; want, where it may choose.
func usual(v Version, src netip.Addr, want Checksum) Checksum {
	switch {
	case v == Version2:
		return ChecksumPlain
	case src.Is6():
		return ChecksumPseudo
	}
	return want
}

// sum is the one's complement sum of RFC 1071 over 16-bit words, not folded.
func sum(b []byte, acc uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		acc += uint32(binary.BigEndian.Uint16(b))
	}
	return acc // every part of a message is of even length
}

func fold(acc uint32) uint16 {
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return uint16(acc)
}

// checksum of a message whose checksum field is 0.
func checksum(msg []byte, src, dst netip.Addr, form Checksum) uint16 {
	acc := sum(msg, 0)
	if form == ChecksumPseudo {
		for _, a := range [2]netip.Addr{src, dst} {
			if a.Is4() {
				b := a.As4()
				acc = sum(b[:], acc)
			} else {
				b := a.As16()
				acc = sum(b[:], acc)
			}
		}
		acc += Protocol + uint32(len(msg))
	}
	return ^fold(acc)
}

// verify tells whether the checksum within msg fits one form.
func verify(msg []byte, src, dst netip.Addr, form Checksum) bool {
	return checksum(msg, src, dst, form) == 0
}
