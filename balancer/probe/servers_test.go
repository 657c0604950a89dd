package probe

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// inside runs f on a thread that is in the namespace and ends with it. Sockets
// that f opens stay there.
func (i isp) inside(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", i.pid))
		if err == nil {
			err = errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET), ns.Close())
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// tcp serves connections until the test ends.
func (i isp) tcp(t *testing.T, at string, serve func(net.Conn)) {
	t.Helper()
	var l net.Listener
	i.inside(t, func() (err error) { l, err = net.Listen("tcp4", at); return err })
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				serve(c)
			}()
		}
	}()
}

// says reads a request and answers with that, and waits for the other to go.
func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		b := make([]byte, 2000)
		if _, err := c.Read(b); err != nil {
			return
		}
		_, _ = c.Write([]byte(text))
		_, _ = c.Read(b)
	}
}

// hangs listens, and says nothing.
func hangs(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// dns answers each query with the packets that answer returns.
func (i isp) dns(t *testing.T, at string, answer func(q dnsmessage.Message) [][]byte) {
	t.Helper()
	var l net.PacketConn
	i.inside(t, func() (err error) { l, err = net.ListenPacket("udp4", at); return err })
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for b := make([]byte, 600); ; {
			n, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if q.Unpack(b[:n]) != nil {
				continue
			}
			go func() {
				for _, p := range answer(q) {
					_, _ = l.WriteTo(p, from)
				}
			}()
		}
	}()
}

func pack(m dnsmessage.Message) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// authority signs the certificates of the tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{}
	_, a.cert, a.key = a.sign(t, x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a authority) sign(t *testing.T, c x509.Certificate) ([]byte, *x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "of a test"}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = &c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return der, cert, key
}

// trust makes it the only authority of this process, which is that of one
// test. It must stand before the first certificate is looked at.
func (a authority) trust(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := errors.Join(
		os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600),
		os.Setenv("SSL_CERT_FILE", file), os.Setenv("SSL_CERT_DIR", t.TempDir()),
		os.Setenv("http_proxy", "http://192.0.2.77:3128"), // is not asked
	); err != nil {
		t.Fatal(err)
	}
}

// secure puts TLS before a server, with a certificate for those names.
func (a authority) secure(t *testing.T, serve func(net.Conn), names ...string) func(net.Conn) {
	t.Helper()
	der, _, key := a.sign(t, x509.Certificate{DNSNames: names, IPAddresses: []net.IP{net.IPv4(198, 51, 100, 2)}})
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return func(c net.Conn) { serve(tls.Server(c, cfg)) }
}
