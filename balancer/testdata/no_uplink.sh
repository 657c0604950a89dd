#!/bin/sh
set -e
sysctl -qw net/ipv4/conf/all/send_redirects=0
sysctl -qw net/ipv4/conf/lan0/arp_ignore=1
sysctl -qw net/ipv4/conf/lan0/arp_announce=2
sysctl -qw net/ipv4/conf/lan0/promote_secondaries=1
sysctl -qw net/ipv4/conf/lan0/rp_filter=$([ "$(sysctl -n net/ipv4/conf/all/rp_filter)" = 1 ] && echo 2 || echo 0)
sysctl -qw net/ipv4/conf/lan0/send_redirects=0
ip rule add priority 7000 lookup 254 suppress_prefixlength 0 protocol 200
nft -f - <<'EOF'
table inet harouter {
	set lan_if {
		type ifname
		elements = { "lan0" }
	}
	set wan_if {
		type ifname
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
		elements = { "lan0" : goto lan }
	}
	map wan_out {
		type ifname : verdict
	}
	map restore {
		type mark : verdict
		size 63
	}
	set marks {
		type mark
		size 63
	}
	map nat {
		type ifname : verdict
	}
	map slots_default {
		typeof numgen random mod 256 : verdict
		size 256
	}
	chain pre {
		type filter hook prerouting priority -150; policy accept;
		meta mark 0 ct mark & 0x00003f00 @marks meta mark set ct mark & 0x00003f00 return
		meta nfproto != ipv4 return
		iifname vmap @way_in
		ip saddr @nodes goto lan
	}
	chain lan {
		ct mark & 0x00003f00 vmap @restore
		ct state new fib daddr type unicast goto classify
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
		meta l4proto 4 return
		meta l4proto 41 return
		meta l4proto 47 return
		meta l4proto 50 return
		meta l4proto 51 return
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
		counter accept
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
sysctl -qw net/ipv4/conf/lan0/forwarding=1
