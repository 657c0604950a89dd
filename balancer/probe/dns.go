package probe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// query asks a name server once and waits for its answer. Packets that are no
// answer to this question are passed over: anybody can send those.
func query(ctx context.Context, d dialer, t Target) (time.Duration, error) {
	q, err := question(t.Name)
	if err != nil {
		return 0, err
	}
	id := uint16(rand.Uint32())
	packet, err := (&dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{q},
	}).Pack()
	if err != nil {
		return 0, fmt.Errorf("ask for %v: %w", q.Name, err)
	}
	conn, err := d.udp(ctx, netip.AddrPortFrom(t.Address, t.port()))
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }() // nothing is left to write
	defer interrupt(ctx, conn)()
	began := time.Now()
	if _, err := conn.Write(packet); err != nil {
		return 0, err
	}
	// Without EDNS none is longer; of a longer one the head is enough.
	for b := make([]byte, 512); ; {
		n, err := conn.Read(b)
		if err != nil {
			return 0, err
		}
		rtt := time.Since(began)
		code, ok := reply(b[:n], id, q)
		switch {
		case !ok:
		case code == dnsmessage.RCodeServerFailure:
			return 0, errors.New("the name server says SERVFAIL")
		default:
			return rtt, nil
		}
	}
}

// question is what is asked for that name.
func question(name string) (dnsmessage.Question, error) {
	q := dnsmessage.Question{Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	name = strings.TrimSuffix(name, ".")
	if name == "" {
		q.Type = dnsmessage.TypeNS
	}
	var err error
	if q.Name, err = dnsmessage.NewName(name + "."); err != nil {
		return q, fmt.Errorf("%q is no name to ask for: %w", name, err)
	}
	return q, nil
}

// reply reads the head of a packet, and says whether it answers that question.
// Only one that refuses may leave the question out, as some servers do. Some
// change the case of its letters.
func reply(b []byte, id uint16, q dnsmessage.Question) (dnsmessage.RCode, bool) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || !h.Response || h.ID != id {
		return 0, false
	}
	asked, err := p.Question()
	switch {
	case errors.Is(err, dnsmessage.ErrSectionDone):
		return h.RCode, h.RCode != dnsmessage.RCodeSuccess
	case err != nil:
		return 0, false
	}
	same := asked.Type == q.Type && asked.Class == q.Class && strings.EqualFold(asked.Name.String(), q.Name.String())
	return h.RCode, same
}
