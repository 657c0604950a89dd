package peer

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
)

// alpn is the protocol's name in TLS (RFC 7301). It stands for the greeting,
// which tells the versions.
const (
	alpnFamily = "harouter-sync/"
	alpn       = alpnFamily + "1"
)

// roster is what follows from a Config. It does not change.
type roster struct {
	cfg     Config
	own     tls.Certificate
	known   map[public]string
	sources map[netip.Addr]string // addresses of the peers
	links   map[string]*link
}

func newRoster(cfg Config) (*roster, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	own, err := certificate(cfg.Seeds[0], cfg.Node)
	if err != nil {
		return nil, err
	}
	if cfg.Queue == 0 {
		cfg.Queue = DefaultQueue
	}
	r := &roster{cfg: cfg, own: own, known: map[public]string{}, sources: map[netip.Addr]string{}, links: map[string]*link{}}
	for name, list := range cfg.Peers {
		for _, seed := range cfg.Seeds {
			r.known[publicOf(seed, name)] = name
		}
		for _, a := range list {
			r.sources[a.Addr().Unmap()] = name
		}
	}
	return r, nil
}

// permits tells whether a connection with the peer may go on.
func (r *roster) permits(s *stream) bool {
	own := func(list []netip.AddrPort, a netip.AddrPort) bool {
		return slices.ContainsFunc(list, func(b netip.AddrPort) bool { return b.Addr().Unmap() == a.Addr() })
	}
	return r.known[s.key] == s.node && own(r.cfg.Addresses, s.local) && own(r.cfg.Peers[s.node], s.remote)
}

// verify returns who the other side of a handshake is.
func (r *roster) verify(state tls.ConnectionState) (string, public, error) {
	key, ok := presented(state)
	node := r.known[key]
	if !ok || node == "" {
		return "", key, &fault{ReasonKey, fmt.Errorf("the other side has no key of a node that is in our file: is its cluster.key the same, and is it the node that it should be?")}
	}
	return node, key, nil
}

// serverTLS is for connections to us with our protocol.
func (r *roster) serverTLS() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{r.own}, MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
		ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, _, err := r.verify(state)
			return err
		},
		DynamicRecordSizingDisabled: true,
		SessionTicketsDisabled:      true, // each session proves anew who it is with
	}
}

// clientTLS is for a connection to a peer.
func (r *roster) clientTLS(node string) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{r.own}, MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
		DynamicRecordSizingDisabled: true,
		InsecureSkipVerify:          true, // there is no authority, but these keys
		VerifyConnection: func(state tls.ConnectionState) error {
			who, _, err := r.verify(state)
			if err == nil && who != node {
				err = &fault{ReasonKey, fmt.Errorf("at the address of %s answers %s", node, who)}
			}
			return err
		},
	}
}

// way is from an own address to one of a peer.
type way struct{ local, remote netip.AddrPort }

// ways returns all of them, the preferred first: the first address to the
// first, the second to the second, and then across.
func (r *roster) ways(node string) []way {
	type ranked struct {
		way
		rank int
	}
	var all []ranked
	for i, local := range r.cfg.Addresses {
		for j, remote := range r.cfg.Peers[node] {
			w := way{plain(local), plain(remote)}
			if w.local.Addr().Is4() == w.remote.Addr().Is4() {
				all = append(all, ranked{w, max(i, j)<<8 + max(i-j, j-i)})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return a.rank - b.rank })
	out := make([]way, len(all))
	for i, w := range all {
		out[i] = w.way
	}
	return out
}
