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
	own     []tls.Certificate // one for each of the keys
	names   []string          // of the keys
	known   map[public]known
	sources map[netip.Addr]string // addresses of the peers
	links   map[string]*link
}

// known is who has a key, and of which of our seeds it is.
type known struct {
	node string
	seed int
}

func newRoster(cfg Config) (*roster, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Queue == 0 {
		cfg.Queue = DefaultQueue
	}
	r := &roster{cfg: cfg, known: map[public]known{}, sources: map[netip.Addr]string{}, links: map[string]*link{}}
	for _, seed := range cfg.Seeds {
		own, err := certificate(seed, cfg.Node)
		if err != nil {
			return nil, err
		}
		r.own, r.names = append(r.own, own), append(r.names, nameOf(seed))
	}
	for name, list := range cfg.Peers {
		for i, seed := range cfg.Seeds {
			r.known[publicOf(seed, name)] = known{name, i}
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
	return r.known[s.key].node == s.node && own(r.cfg.Addresses, s.local) && own(r.cfg.Peers[s.node], s.remote)
}

// verify returns who the other side of a handshake is.
func (r *roster) verify(state tls.ConnectionState) (known, public, error) {
	key, ok := presented(state)
	who := r.known[key]
	if !ok || who.node == "" {
		return who, key, &fault{ReasonKey, fmt.Errorf("the other side has no key of a node that is in our file: is its cluster.key the same, and is it the node that it should be?")}
	}
	return who, key, nil
}

// serverTLS is for connections to us with our protocol. Of our keys it shows the
// one that the client names: it may have no other.
func (r *roster) serverTLS(name string) *tls.Config {
	seed := max(0, slices.Index(r.names, name))
	return &tls.Config{
		Certificates: r.own[seed : seed+1], MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
		ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, _, err := r.verify(state)
			return err
		},
		DynamicRecordSizingDisabled: true,
		SessionTicketsDisabled:      true, // each session proves anew who it is with
	}
}

// clientTLS is for a connection to a peer. It answers with the key that the peer
// showed, also if that is an older one of ours.
func (r *roster) clientTLS(node string) *tls.Config {
	seed := 0
	return &tls.Config{
		ServerName: r.names[0], MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // after VerifyConnection
			return &r.own[seed], nil
		},
		DynamicRecordSizingDisabled: true,
		InsecureSkipVerify:          true, // there is no authority, but these keys
		VerifyConnection: func(state tls.ConnectionState) error {
			who, _, err := r.verify(state)
			if err == nil && who.node != node {
				err = &fault{ReasonKey, fmt.Errorf("at the address of %s answers %s", node, who.node)}
			}
			seed = who.seed
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
