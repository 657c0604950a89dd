package join

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// identity makes the certificate of a cluster out of a seed: the same key on
// all its nodes. Its dates mean nothing (clocks may be wrong on a new router):
// it is known by its pin alone.
func identity(seed [32]byte) (tls.Certificate, pin, error) {
	key := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "harouter"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 4.1.2.5: none
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, pin{}, fmt.Errorf("make the certificate for join: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, pin{}, fmt.Errorf("make the certificate for join: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pinOf(leaf), nil
}

func pinOf(c *x509.Certificate) pin {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return pin(sum[:len(pin{})])
}
