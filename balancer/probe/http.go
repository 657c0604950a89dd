package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// longestHead bounds, in bytes, what is read of an answer: its head is enough.
const longestHead = 64 << 10

// get asks for the URL at the target's address. The time is that of the TCP
// handshake: one round trip, as with the other methods, without what the server
// thinks. It goes without http.Client, which follows a proxy of the environment
// and leaves goroutines behind.
func get(ctx context.Context, d dialer, t Target) (time.Duration, error) {
	at := t.URL
	if at == "" {
		at = (&url.URL{Scheme: "http", Host: host(t.Address), Path: "/"}).String()
	}
	u, port, err := where(at)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	raw, err := d.tcp(ctx, netip.AddrPortFrom(t.Address, port))
	if err != nil {
		return 0, err
	}
	rtt := time.Since(began)
	defer func() { _ = raw.Close() }() // the answer is there, or is not wanted any more
	defer interrupt(ctx, raw)()
	var conn net.Conn = raw
	if u.Scheme == "https" {
		secure := tls.Client(raw, &tls.Config{ServerName: u.Hostname()})
		if err := secure.HandshakeContext(ctx); err != nil {
			return 0, handshake(err)
		}
		conn = secure
	}
	req := &http.Request{
		Method: http.MethodGet, URL: u, Host: u.Host, Close: true,
		Header: http.Header{"User-Agent": {"harouter"}, "Accept": {"*/*"}},
	}
	if err := req.Write(conn); err != nil {
		return 0, err
	}
	code, err := status(conn)
	switch {
	case err != nil:
		return 0, err
	case code >= 500:
		return 0, fmt.Errorf("the server says %d %s", code, http.StatusText(code))
	}
	return rtt, nil
}

func host(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// where takes a URL apart, and says to which port it leads.
func where(at string) (*url.URL, uint16, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, 0, err
	}
	port := uint64(80)
	switch u.Scheme {
	case "http":
	case "https":
		port = 443
	default:
		return nil, 0, fmt.Errorf("%q is no http or https URL", at)
	}
	if u.Hostname() == "" {
		return nil, 0, fmt.Errorf("%q names no host", at)
	}
	if p := u.Port(); p != "" {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil || port == 0 {
			return nil, 0, fmt.Errorf("%q has no port from 1 to 65535", at)
		}
	}
	return u, uint16(port), nil
}

// status reads the head of an answer. An answer of which only a part came, or
// that is none, is an error.
func status(from io.Reader) (int, error) {
	res, err := http.ReadResponse(bufio.NewReader(io.LimitReader(from, longestHead)), nil)
	var errno syscall.Errno
	switch {
	case err == nil:
		// The body is not closed: that would read all of it first.
		return res.StatusCode, nil
	case errors.As(err, &errno):
		return 0, errno
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return 0, errors.New("the connection ended before the answer did")
	}
	return 0, errors.New("the answer is not HTTP") // what http says quotes it
}

// handshake says what was wrong in a TLS handshake, the certificate apart.
func handshake(err error) error {
	var bad *tls.CertificateVerificationError
	var wrong x509.HostnameError
	var stranger x509.UnknownAuthorityError
	switch {
	case errors.As(err, &wrong):
		return fmt.Errorf("the certificate is not for %s", wrong.Host)
	case errors.As(err, &stranger):
		return errors.New("the certificate is from an authority that this machine does not trust")
	case errors.As(err, &bad):
		return fmt.Errorf("the certificate is not accepted: %w", bad.Err)
	case errors.Is(err, io.EOF):
		return errors.New("the connection ended in the TLS handshake")
	}
	return fmt.Errorf("TLS handshake: %w", err)
}
