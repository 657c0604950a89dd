package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// Reason says why there is no session, or why something was refused. The
// refusals are also status keys and metric labels.
type Reason string

// Refusals, which are counted (Counters, Config.Drop), and which Down tells
// too where the node is known.
const (
	ReasonTLS         Reason = "tls"         // no TLS 1.3, or a protocol that nobody here speaks
	ReasonKey         Reason = "key"         // another cluster key, a node that is not in the file, or one that poses as another
	ReasonVersion     Reason = "version"     // no common version of the protocol
	ReasonGarbage     Reason = "garbage"     // frames that are none, or at the wrong time
	ReasonTimeout     Reason = "timeout"     // silent for too long, or too slow in the handshake
	ReasonConnections Reason = "connections" // too many handshakes at once, or too often
	ReasonOverflow    Reason = "overflow"    // the queue to a peer was full and was dropped
)

// Ends of a session that nobody is to blame for.
const (
	ReasonUnreachable Reason = "unreachable" // no connection, on any path
	ReasonLost        Reason = "lost"        // the connection broke
	ReasonLeft        Reason = "left"        // the other side ended it
	ReasonReplaced    Reason = "replaced"    // the peer began a new one: it did not see this one any more
	ReasonConfigured  Reason = "configured"  // its address or key is configured no more
	ReasonStopped     Reason = "stopped"     // this node leaves
)

func (r Reason) counted() bool {
	switch r {
	case ReasonTLS, ReasonKey, ReasonVersion, ReasonGarbage, ReasonTimeout, ReasonConnections, ReasonOverflow:
		return true
	case ReasonUnreachable, ReasonLost, ReasonLeft, ReasonReplaced, ReasonConfigured, ReasonStopped:
	}
	return false
}

// fault is an error with its reason.
type fault struct {
	reason Reason
	err    error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// faultOf finds the reason of an error; other is that of one without.
func faultOf(err error, other Reason) *fault {
	if f, ok := errors.AsType[*fault](err); ok {
		return &fault{f.reason, err}
	}
	op, _ := errors.AsType[*net.OpError](err)
	alert := op != nil && (op.Op == "remote error" || op.Op == "local error") // theirs or ours
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case alerted(err, alertNoALPN):
		return &fault{ReasonVersion, fmt.Errorf("the other side does not speak %s: install the same harouter on both", alpn)}
	case alerted(err, alertBadCertificate):
		return &fault{ReasonKey, errors.New("the other side does not know our key: is cluster.key the same on both, and this node in its file?")}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &fault{ReasonTimeout, err}
	case noTLS, alert, strings.HasPrefix(err.Error(), "tls: "):
		return &fault{ReasonTLS, err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &fault{other, errors.New("the other side hung up")}
	}
	return &fault{other, err}
}

// Alerts of the other side (RFC 8446 6.2, RFC 7301 3.2).
const (
	alertBadCertificate = tls.AlertError(42)
	alertNoALPN         = tls.AlertError(120)
)

// alerted tells whether the other side sent this alert. Its type in the error
// is internal to crypto/tls, the text is that of AlertError.
func alerted(err error, alert tls.AlertError) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" && op.Err.Error() == alert.Error()
}
