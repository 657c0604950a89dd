package gossip

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// roster is who talks to whom over what, as the file has it now. It never
// changes: Configure makes a new one, which takes over what stays the same.
type roster struct {
	cfg       Config
	addresses []netip.Addr // own
	port      uint16
	peers     map[string]*peer
	paths     map[string][]*path // by peer, in order of preference
	byEnds    map[ends]*path
	nodes     map[netip.Addr]bool // addresses of the peers
}

func newRoster(cfg Config, old *roster) *roster {
	r := &roster{
		cfg: cfg, port: uint16(cfg.Port),
		peers: map[string]*peer{}, paths: map[string][]*path{}, byEnds: map[ends]*path{}, nodes: map[netip.Addr]bool{},
	}
	if old == nil {
		old = &roster{}
	}
	for _, a := range cfg.Addresses {
		r.addresses = append(r.addresses, a.Unmap())
	}
	for name, list := range cfg.Peers {
		if r.peers[name] = old.peers[name]; r.peers[name] == nil {
			r.peers[name] = newPeer(name)
		}
		for _, a := range list {
			r.nodes[a.Unmap()] = true
		}
		before := old.paths[name]
		for _, e := range pairs(cfg.Addresses, list) {
			p := &path{ends: e}
			if i := slices.IndexFunc(before, func(b *path) bool { return b.ends == e }); i >= 0 {
				p = before[i]
			}
			r.paths[name] = append(r.paths[name], p)
			r.byEnds[e] = p
		}
	}
	return r
}

// heard notes a sign of life of the path, if it is one.
func (r *roster) heard(local, remote netip.Addr, at time.Time) {
	if p := r.byEnds[ends{local, remote}]; p != nil {
		p.last.Store(&at)
	}
}

// Paths returns the ways to the other nodes, by node and there in order of
// preference. Each is heard several times a second while it and the node work.
func (g *Gossip) Paths() []Path {
	var out []Path
	r := g.roster.Load()
	for _, name := range slices.Sorted(maps.Keys(r.paths)) {
		for _, p := range r.paths[name] {
			known := Path{Peer: name, Local: p.local, Remote: p.remote}
			if last := p.last.Load(); last != nil {
				known.Heard = *last
			}
			out = append(out, known)
		}
	}
	return out
}
