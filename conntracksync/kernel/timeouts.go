package kernel

import (
	"errors"
	"io/fs"
	"time"

	"harouter/conntracksync"
)

// ReadTimeouts reads how long flows live in the network namespace of the calling
// thread. What the kernel does not have stays at its usual value.
func ReadTimeouts() (conntracksync.Timeouts, error) {
	t := conntracksync.DefaultTimeouts()
	files := map[string]*time.Duration{
		"generic_timeout": &t.Generic, "icmp_timeout": &t.ICMP, "icmpv6_timeout": &t.ICMPv6,
		"udp_timeout": &t.UDP, "udp_timeout_stream": &t.UDPStream, "gre_timeout": &t.GRE, "gre_timeout_stream": &t.GREStream,
	}
	for state, name := range [...]string{
		conntracksync.SYNSent: "syn_sent", conntracksync.SYNReceived: "syn_recv", conntracksync.Established: "established",
		conntracksync.FINWait: "fin_wait", conntracksync.CloseWait: "close_wait", conntracksync.LastACK: "last_ack",
		conntracksync.TimeWait: "time_wait", conntracksync.Closed: "close",
	} {
		if name != "" {
			files["tcp_timeout_"+name] = &t.TCP[state]
		}
	}
	for state, name := range [...]string{1: "closed", 2: "cookie_wait", 3: "cookie_echoed", 4: "established",
		5: "shutdown_sent", 6: "shutdown_recd", 7: "shutdown_ack_sent", 8: "heartbeat_sent"} {
		if name != "" {
			files["sctp_timeout_"+name] = &t.SCTP[state]
		}
	}
	for name, to := range files {
		seconds, err := number(tableDir + "nf_conntrack_" + name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return t, err
		default:
			*to = time.Duration(seconds) * time.Second
		}
	}
	t.TCP[conntracksync.SYNSent2] = t.TCP[conntracksync.SYNSent]
	return t, nil
}
