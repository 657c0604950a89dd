package join

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Bounds of the new router's side.
const (
	dialWithin  = 10 * time.Second
	fetchWithin = 60 * time.Second // all of it
)

// again is what to do about a ticket that is good no more.
const again = "make a new ticket with `harouter token`"

// Fetch asks the node at address (host:port) for the cluster's file and key.
// Nothing but the handshake is sent to one whose certificate is not the
// ticket's. Errors are sentences for the person who typed the command.
func Fetch(ctx context.Context, address string, t Ticket, r Request) (Bundle, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	d := net.Dialer{Timeout: dialWithin}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return Bundle{}, explainDial(address, err)
	}
	return fetch(ctx, conn, address, t, r)
}

// errPin: the certificate is not the one that the ticket names.
var errPin = errors.New("wrong certificate")

func (t Ticket) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 || pinOf(cs.PeerCertificates[0]) != t.pin {
		return errPin
	}
	return nil
}

func fetch(ctx context.Context, conn net.Conn, address string, t Ticket, r Request) (Bundle, error) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	secure := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
		// No authority signs for a cluster, and a new router's clock may be
		// wrong: the pin says all, and the handshake proves the key behind it.
		InsecureSkipVerify: true, VerifyConnection: t.verify,
	})
	conn.SetDeadline(time.Now().Add(dialWithin))
	if err := secure.HandshakeContext(ctx); err != nil {
		return Bundle{}, explainHandshake(ctx, address, err)
	}
	conn.SetDeadline(time.Now().Add(fetchWithin))
	r.Protocol = Protocol
	if err := writeFrame(secure, hello{Secret: t.secret[:], Request: r}, maxRequest); err != nil {
		if long, ok := errors.AsType[errTooLong](err); ok {
			return Bundle{}, fmt.Errorf("ask %s to join: %w: give fewer addresses and devices", address, long)
		}
		return Bundle{}, explainTalk(ctx, address, err)
	}
	raw, err := readFrame(secure, maxBundle)
	if err != nil {
		return Bundle{}, explainTalk(ctx, address, err)
	}
	a, err := decodeAnswer(raw)
	if _, newer := errors.AsType[errNewer](err); newer {
		return Bundle{}, fmt.Errorf("join at %s: %w", address, err)
	}
	if err != nil {
		return Bundle{}, fmt.Errorf("read the answer of %s: %w", address, err)
	}
	if a.Error != "" {
		return Bundle{}, fmt.Errorf("%s refuses: %s", address, a.Error)
	}
	if err := a.Bundle.check(); err != nil {
		return Bundle{}, fmt.Errorf("read the answer of %s: %w: nothing of it is used", address, err)
	}
	return *a.Bundle, nil
}

func explainDial(address string, err error) error {
	dns, noName := errors.AsType[*net.DNSError](err)
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case noName && dns.IsNotFound:
		return fmt.Errorf("there is no host %q: give the address that `harouter token` printed", dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens at %s for a new router: is the daemon running there, and the ticket still unused and valid (else %s), and does its firewall let this machine in?", address, again)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("no way leads to %s: is the cable plugged in, and has this machine an address in that network?", address)
	case ok && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s does not answer: is the address right, the machine up, and does a firewall drop what comes from here?", address)
	}
	return fmt.Errorf("connect to %s: %w", address, err)
}

// noALPN is the alert of a server that speaks other protocols (RFC 7301 3.2),
// noVersion that of one without TLS 1.3 (RFC 8446 6.2).
const (
	noVersion = tls.AlertError(70)
	noALPN    = tls.AlertError(120)
)

func explainHandshake(ctx context.Context, address string, err error) error {
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case errors.Is(err, errPin):
		return fmt.Errorf("%s is not the cluster that made the ticket (its certificate is another one): check the address; if it is right, somebody may be in between", address)
	case alerted(err, noALPN): // the port is the state sync's too, and open without a ticket
		return fmt.Errorf("%s takes no new router at this moment: its last ticket was used or is too old (or it does not speak %s, being of another version): %s", address, alpn, again)
	case alerted(err, noVersion):
		return fmt.Errorf("%s does not speak this version of join (%s): install the same harouter on both routers", address, alpn)
	case noTLS:
		return fmt.Errorf("what listens at %s is no harouter: check the address and the port", address)
	}
	return explainTalk(ctx, address, err)
}

// alerted tells whether the other side sent this alert. Its type in the error
// is internal to crypto/tls, the text is that of AlertError.
func alerted(err error, alert tls.AlertError) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" && op.Err.Error() == alert.Error()
}

func explainTalk(ctx context.Context, address string, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%s stopped answering: try again, the ticket stays valid unless it says otherwise", address)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%s hung up: too many try to join at once, or its last ticket has just ended: try again, or %s", address, again)
	}
	return fmt.Errorf("talk to %s: %w", address, err)
}
