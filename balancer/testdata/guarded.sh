#!/bin/sh
set -e
ip link add hrv6-cable link wan1 address 00:00:5e:00:02:33 type macvlan mode private
sysctl -qw net/ipv4/conf/all/send_redirects=0
sysctl -qw net/ipv4/conf/hrv6-cable/arp_ignore=1
sysctl -qw net/ipv4/conf/hrv6-cable/arp_announce=2
sysctl -qw net/ipv4/conf/hrv6-cable/promote_secondaries=1
sysctl -qw net/ipv4/conf/hrv6-cable/rp_filter=$([ "$(sysctl -n net/ipv4/conf/all/rp_filter)" = 1 ] && echo 2 || echo 0)
sysctl -qw net/ipv4/conf/hrv6-cable/send_redirects=0
sysctl -qw net/ipv4/conf/hrv6-cable/src_valid_mark=1
sysctl -qw net/ipv4/conf/lan0/arp_ignore=1
sysctl -qw net/ipv4/conf/lan0/arp_announce=2
sysctl -qw net/ipv4/conf/lan0/promote_secondaries=1
sysctl -qw net/ipv4/conf/lan0/rp_filter=$([ "$(sysctl -n net/ipv4/conf/all/rp_filter)" = 1 ] && echo 2 || echo 0)
sysctl -qw net/ipv4/conf/lan0/send_redirects=0
sysctl -qw net/ipv4/conf/wan1/arp_ignore=1
sysctl -qw net/ipv4/conf/wan1/arp_announce=2
sysctl -qw net/ipv4/conf/wan1/promote_secondaries=1
sysctl -qw net/ipv4/conf/wan1/rp_filter=$([ "$(sysctl -n net/ipv4/conf/all/rp_filter)" = 1 ] && echo 2 || echo 0)
sysctl -qw net/ipv4/conf/wan1/send_redirects=0
sysctl -qw net/ipv4/conf/wan1/src_valid_mark=1
sysctl -qw net/ipv4/conf/wan2/arp_ignore=1
sysctl -qw net/ipv4/conf/wan2/arp_announce=2
sysctl -qw net/ipv4/conf/wan2/promote_secondaries=1
sysctl -qw net/ipv4/conf/wan2/rp_filter=$([ "$(sysctl -n net/ipv4/conf/all/rp_filter)" = 1 ] && echo 2 || echo 0)
sysctl -qw net/ipv4/conf/wan2/send_redirects=0
sysctl -qw net/ipv4/conf/wan2/src_valid_mark=1
ip link set hrv6-cable up
ip route add default table 7000 protocol 200 nexthop via 203.0.113.1 dev wan1 onlink weight 171 nexthop via 203.0.113.129 dev wan2 onlink weight 85
ip route add default table 7001 protocol 200 via 203.0.113.1 dev wan1 onlink
ip route add 203.0.113.0/25 table 7001 protocol 200 dev wan1 scope link
ip route add unreachable default table 7001 protocol 200 metric 2147483647
ip route add default table 7002 protocol 200 via 203.0.113.129 dev wan2 onlink
ip route add 203.0.113.128/25 table 7002 protocol 200 dev wan2 scope link
ip route add unreachable default table 7002 protocol 200 metric 2147483647
ip rule add priority 7000 lookup 254 suppress_prefixlength 0 protocol 200
ip rule add priority 7001 fwmark 0x100/0x3f00 lookup 7001 protocol 200
ip rule add priority 7002 fwmark 0x200/0x3f00 lookup 7002 protocol 200
ip rule add priority 7100 from 203.0.113.2 lookup 7001 protocol 200
ip rule add priority 7101 from 203.0.113.130 lookup 7002 protocol 200
ip rule add priority 7400 from 203.0.113.10 lookup 7001 protocol 200
ip rule add priority 7401 from 203.0.113.140 lookup 7002 protocol 200
ip rule add priority 7900 iif lo lookup 7000 protocol 200
nft -f - <<'EOF'
table inet harouter {
	set lan_if {
		type ifname
		elements = { "lan0" }
	}
	set wan_if {
		type ifname
		elements = { "hrv6-cable", "wan1", "wan2", "wan3" }
	}
	set nodes {
		type ipv4_addr
		elements = { 192.0.2.1, 192.0.2.2 }
	}
	set inside {
		type ipv4_addr
		elements = { 192.0.2.1, 192.0.2.2, 192.168.77.1, 192.168.77.2 }
	}
	set virtual {
		type ipv4_addr
		elements = { 203.0.113.10, 203.0.113.140 }
	}
	set active {
		type nf_proto
		elements = { ipv4 }
	}
	set grace {
		type nf_proto
		flags timeout
	}
	set ended {
		type ipv4_addr . inet_service . ipv4_addr . inet_service
		flags timeout
	}
	map way_in {
		type ifname : verdict
		elements = { "hrv6-cable" : goto in_cable, "lan0" : goto lan, "wan1" : goto in_cable, "wan2" : goto in_dsl, "wan3" : goto former }
	}
	map wan_out {
		type ifname : verdict
		elements = { "hrv6-cable" : goto own_cable, "wan1" : goto own_cable, "wan2" : goto own_dsl }
	}
	map restore {
		type mark : verdict
		size 63
		elements = { 0x100 : goto mark_cable, 0x200 : goto mark_dsl }
	}
	set marks {
		type mark
		size 63
		elements = { 0x100, 0x200 }
	}
	map nat {
		type ifname : verdict
		elements = { "hrv6-cable" : goto nat_cable, "wan1" : goto nat_cable, "wan2" : goto nat_dsl }
	}
	map slots_default {
		typeof numgen random mod 256 : verdict
		size 256
		elements = { 171 times goto up_cable, 85 times goto up_dsl }
	}
	set syn_sources {
		type ipv4_addr
		size 65535
		flags dynamic,timeout
		timeout 10s
	}
	set syn_sources6 {
		type ipv6_addr
		size 65535
		flags dynamic,timeout
		timeout 10s
	}
	set nodes6 {
		type ipv6_addr
		elements = { fd00:7::1 }
	}
	chain pre {
		type filter hook prerouting priority -150; policy accept;
		meta mark 0 ct mark & 0x00003f00 @marks meta mark set ct mark & 0x00003f00 return
		meta nfproto != ipv4 goto sources6
		iifname vmap @way_in
		ip saddr @nodes goto lan
	}
	chain lan {
		ct mark & 0x00003f00 vmap @restore
		ct state new fib daddr type unicast jump sources_lan
		ct state new fib daddr type unicast goto classify
		ct state invalid fib daddr type unicast goto stray
	}
	chain classify {
		goto policy_default
	}
	chain out {
		type route hook output priority -150; policy accept;
		meta nfproto != ipv4 return
		meta mark & 0x00003f00 != 0 return
		ct mark & 0x00003f00 vmap @restore
		ct state new fib saddr . oif type local oifname vmap @wan_out
	}
	chain leave {
		type filter hook postrouting priority -10; policy accept;
		meta iif != 0 return
		meta nfproto != ipv4 return
		oifname != @wan_if return
		rt ipsec exists return
		ip saddr @inside fib saddr type local fib saddr . oif type != local counter drop
	}
	chain forwarded {
		type filter hook forward priority -10; policy accept;
		ct state established,related meta mark & 0x00003f00 != 0 return
		ct state established,related ct mark & 0x00003f00 == 0 return
		ct state new ct mark & 0x00003f00 != 0 oifname != @wan_if iifname != @wan_if ct mark set ct mark & 0xffffc0ff | 0x00000000 meta mark set meta mark & 0xffffc0ff | 0x00000000
		jump guard_forward
		meta nfproto != ipv4 return
		oifname @wan_if goto to_wan
	}
	chain to_wan {
		ct state invalid iifname @lan_if counter drop
		ct state invalid ip saddr @nodes counter drop
		ct state new meta mark & 0x00003f00 == 0 iifname @lan_if counter drop
		ct mark & 0x00003f00 != 0 meta mark & 0x00003f00 == 0 counter drop
		meta mark & 0x00003f00 == 0 return
		ct state new tcp flags & (fin | syn | rst | ack) != syn goto midstream
		ct state new meta nfproto != @active counter drop
		ct state new oifname vmap @wan_out
	}
	chain midstream {
		meta nfproto != @active counter drop
		tcp flags & (rst) == rst drop
		iifname @lan_if ip saddr . tcp sport . ip daddr . tcp dport @ended counter reject with tcp reset
		meta nfproto @grace counter drop
		iifname @lan_if counter reject with tcp reset
		drop
	}
	chain in {
		type filter hook input priority -10; policy accept;
		meta nfproto != ipv4 return
		iifname != @wan_if return
		ip daddr @virtual goto to_virtual
	}
	chain to_virtual {
		ct state established,related return
		icmp type echo-request return
		socket mark & 0x0 == 0x0 return
		meta l4proto 50 return
		counter drop
	}
	chain post {
		type nat hook postrouting priority 100; policy accept;
		meta nfproto != ipv4 return
		rt ipsec exists return
		meta mark & 0x00003f00 == 0 return
		meta iif 0 fib saddr type local return
		oifname vmap @nat
	}
	chain policy_default {
		numgen random mod 256 vmap @slots_default
		numgen random mod 256 vmap @slots_default
		counter goto lost
	}
	chain lost {
		meta mark set meta mark & 0xffffc0ff | 0x00000100
		fib daddr . mark oif missing goto lost_nowhere
		fib daddr . mark oifname "wan1" goto lost_nowhere
		fib daddr . mark oifname "hrv6-cable" goto lost_nowhere
		meta mark set meta mark & 0xffffc0ff | 0x00000000
		accept
	}
	chain lost_nowhere {
		meta mark set meta mark & 0xffffc0ff | 0x00000000
		counter drop
	}
	chain stray {
		meta mark set meta mark & 0xffffc0ff | 0x00000100
		fib daddr . mark oif missing goto stray_nowhere
		fib daddr . mark oifname "wan1" goto stray_nowhere
		fib daddr . mark oifname "hrv6-cable" goto stray_nowhere
		meta mark set meta mark & 0xffffc0ff | 0x00000000
		accept
	}
	chain stray_nowhere {
		meta mark set meta mark & 0xffffc0ff | 0x00000000
		counter drop
	}
	chain in_cable {
		ct state new ct mark & 0x00003f00 == 0 ct mark set ct mark & 0xffffc0ff | 0x00000100
		meta mark set meta mark & 0xffffc0ff | 0x00000100
		ct state new jump sources_wan
	}
	chain up_cable {
		counter ct mark set ct mark & 0xffffc0ff | 0x00000100 meta mark set meta mark & 0xffffc0ff | 0x00000100 accept
	}
	chain mark_cable {
		meta mark set meta mark & 0xffffc0ff | 0x00000100
	}
	chain own_cable {
		ct mark set ct mark & 0xffffc0ff | 0x00000100
	}
	chain nat_cable {
		snat ip to 203.0.113.10
	}
	chain in_dsl {
		ct state new ct mark & 0x00003f00 == 0 ct mark set ct mark & 0xffffc0ff | 0x00000200
		meta mark set meta mark & 0xffffc0ff | 0x00000200
		ct state new jump sources_wan
	}
	chain up_dsl {
		counter ct mark set ct mark & 0xffffc0ff | 0x00000200 meta mark set meta mark & 0xffffc0ff | 0x00000200 accept
	}
	chain mark_dsl {
		meta mark set meta mark & 0xffffc0ff | 0x00000200
	}
	chain own_dsl {
		ct mark set ct mark & 0xffffc0ff | 0x00000200
	}
	chain nat_dsl {
		snat ip to 203.0.113.140
	}
	chain former {
		ct state new jump sources_wan
	}
	chain guard_in {
		type filter hook input priority -5; policy accept;
		iifname != @wan_if return
		ct state established,related return
		meta secpath exists return
		meta l4proto 2 return
		meta l4proto 112 return
		icmpv6 type 130-137 return
		icmpv6 type 143 return
		ct state invalid goto refuse_invalid
		meta l4proto 6 update @syn_sources { ip saddr timeout 10s limit rate over 200/second burst 200 packets } goto refuse_syn
		meta l4proto 6 update @syn_sources6 { ip6 saddr & ffff:ffff:ffff:ffff:: timeout 10s limit rate over 200/second burst 200 packets } goto refuse_syn
		meta l4proto 6 ip saddr != @syn_sources limit rate over 200/second burst 200 packets goto refuse_syn
		meta l4proto 6 ip6 saddr & ffff:ffff:ffff:ffff:: != @syn_sources6 limit rate over 200/second burst 200 packets goto refuse_syn
		udp dport 68 return
		udp dport 546 return
		ip saddr @nodes tcp dport 7946 return
		ip saddr @nodes udp dport 7946 return
		ip saddr @nodes tcp dport 7947 return
		ip6 saddr @nodes6 tcp dport 7946 return
		ip6 saddr @nodes6 udp dport 7946 return
		ip6 saddr @nodes6 tcp dport 7947 return
		icmp type echo-request limit rate over 500/second burst 500 packets goto refuse_icmp
		icmpv6 type 128 limit rate over 500/second burst 500 packets goto refuse_icmp
		icmp type echo-request return
		icmpv6 type 128 return
		meta l4proto 50 return
		goto refuse_denied
	}
	chain guard_forward {
		iifname != @wan_if return
		ct state established,related return
		meta secpath exists return
		ct state invalid goto refuse_invalid
		meta l4proto 6 update @syn_sources { ip saddr timeout 10s limit rate over 200/second burst 200 packets } goto refuse_syn
		meta l4proto 6 update @syn_sources6 { ip6 saddr & ffff:ffff:ffff:ffff:: timeout 10s limit rate over 200/second burst 200 packets } goto refuse_syn
		meta l4proto 6 ip saddr != @syn_sources limit rate over 200/second burst 200 packets goto refuse_syn
		meta l4proto 6 ip6 saddr & ffff:ffff:ffff:ffff:: != @syn_sources6 limit rate over 200/second burst 200 packets goto refuse_syn
		ct status dnat return
		ip daddr 203.0.113.64/29 tcp dport 443 return
		ip6 daddr 2001:db8:7::/48 tcp dport 443 return
		goto refuse_denied
	}
	chain refuse_denied {
		limit rate 1/second burst 5 packets log prefix "harouter denied: "
		counter drop
	}
	chain refuse_invalid {
		limit rate 1/second burst 5 packets log prefix "harouter invalid: "
		counter drop
	}
	chain refuse_spoofed {
		limit rate 1/second burst 5 packets log prefix "harouter spoofed: "
		counter drop
	}
	chain refuse_icmp {
		limit rate 1/second burst 5 packets log prefix "harouter icmp: "
		counter drop
	}
	chain refuse_syn {
		limit rate 1/second burst 5 packets log prefix "harouter syn: "
		counter drop
	}
	chain sources_lan {
		fib saddr . mark . iif oif missing goto sources_elsewhere
	}
	chain sources_elsewhere {
		meta secpath exists return
		ip saddr @nodes return
		goto refuse_spoofed
	}
	chain sources_wan {
		meta secpath exists return
		meta l4proto 112 return
		icmpv6 type 130-137 return
		icmpv6 type 143 return
		ip saddr @nodes fib saddr . mark . iif oif missing jump sources_node
		ip6 saddr @nodes6 fib saddr . mark . iif oif missing jump sources_node
		fib saddr . mark oifname "lan0" goto refuse_spoofed
	}
	chain sources_node {
		tcp dport 7946 goto refuse_spoofed
		udp dport 7946 goto refuse_spoofed
		tcp dport 7947 goto refuse_spoofed
	}
	chain sources6 {
		ct state new iifname @wan_if goto sources_wan
		ct state new iifname @lan_if fib daddr type unicast jump sources_lan
	}
	chain notice {
		type filter hook output priority -300; policy accept;
		meta priority != 6861:7277 return
		oifname @lan_if notrack return
		drop
	}
}
EOF
sysctl -qw net/ipv4/ip_forward=1
sysctl -qw net/ipv4/conf/hrv6-cable/forwarding=1
sysctl -qw net/ipv4/conf/lan0/forwarding=1
sysctl -qw net/ipv4/conf/wan1/forwarding=1
sysctl -qw net/ipv4/conf/wan2/forwarding=1
