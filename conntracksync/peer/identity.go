package peer

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"
)

// public is the key by which a node is known.
type public [ed25519.PublicKeySize]byte

// keyOf is the key of a node: each node can derive those of all, since it has
// the cluster's secret, but the secret alone says who may take part; the name
// in it sees to it that a node whose name is mistyped is no other one.
func keyOf(seed [32]byte, node string) ed25519.PrivateKey {
	own, err := hkdf.Key(sha256.New, seed[:], nil, "node "+node, ed25519.SeedSize)
	if err != nil {
		panic(err) // only for more than 255 hashes of output
	}
	return ed25519.NewKeyFromSeed(own)
}

func publicOf(seed [32]byte, node string) public {
	return public(keyOf(seed, node).Public().(ed25519.PublicKey))
}

// nameOf is by what a node says which key it has (in the clear), without a hint
// at what the key is.
func nameOf(seed [32]byte) string {
	own, err := hkdf.Key(sha256.New, seed[:], nil, "name", 8)
	if err != nil {
		panic(err)
	}
	return hex.EncodeToString(own) + ".harouter"
}

// certificate wraps the key of a node for TLS. Its dates mean nothing (clocks
// may be wrong): it is known by its key alone.
func certificate(seed [32]byte, node string) (tls.Certificate, error) {
	key := keyOf(seed, node)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "harouter"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 4.1.2.5: none
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the certificate for state sync: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// presented returns the key of the other side's certificate. That it holds the
// private half is what the handshake proves.
func presented(s tls.ConnectionState) (public, bool) {
	if len(s.PeerCertificates) == 0 {
		return public{}, false
	}
	key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PublicKeySize {
		return public{}, false
	}
	return public(key), true
}
