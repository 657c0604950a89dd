package conntracksync

import "net/netip"

// Ends are those of a TCP connection that was established and is not closed on
// both sides, as the inner network sees it: the host there, and whom it speaks
// with. Where only the destination is translated the flow came from outside.
func (f *Flow) Ends() (host, peer netip.AddrPort, ok bool) {
	if f.Original.Protocol != TCP {
		return host, peer, false
	}
	switch f.TCP.State {
	case Established, FINWait, CloseWait:
	default:
		return host, peer, false
	}
	o, r := f.Original, f.Reply
	if r.Source != o.Destination && r.Destination == o.Source {
		return netip.AddrPortFrom(r.Source, r.SourcePort), netip.AddrPortFrom(r.Destination, r.DestinationPort), true
	}
	return netip.AddrPortFrom(o.Source, o.SourcePort), netip.AddrPortFrom(o.Destination, o.DestinationPort), true
}
