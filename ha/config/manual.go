package config

// everyKey is a file in which each list of maps has an entry, so that reading it
// asks for every key.
const everyKey = `
cluster: x
nodes: {x: {}}
lans: [{}]
uplinks: [{probe: {targets: [{}]}}]
policies: [{}]
balance: {flap_hold: {}}
firewall: {allow: [{}], forward: [{}]}
routes: [{}]
`

// Values that are said more than once. A test tries both ends of "A to B", and
// each word of "one of: …".
const (
	aName     = "up to 32 characters of a-z 0-9 . _ - with a letter or digit first"
	aDevice   = "the name of a network device, up to 15 characters"
	yesOrNo   = "true or false"
	anAddress = "an IP address"
	networks  = "a list of networks"
	someText  = "a text"
	aMap      = "a map"
	aList     = "a list"
	termsOf   = "one or a list; {not: X} for all but X"
)

// words says what the manual has of each key.
var words = map[string]Words{
	"cluster": {Values: aName, Example: "home", Text: "The name of the cluster, the same on every router."},

	"nodes":              {Values: "a map of names", Example: "{r1: {address: 192.0.2.1}, r2: {address: 192.0.2.2}}", Text: "The routers by name, which is their host name unless they are run with --node. All that differs between them stands here."},
	"nodes.NAME.address": {Values: anAddress, Example: "192.0.2.1", Text: "Where the other routers reach this one for gossip and state sync: best on a direct cable. An address on a lan works too, with one witness less."},
	"nodes.NAME.addresses": {Values: "a list of 1 to 8 IP addresses", Example: "[192.0.2.1, 192.168.77.2]", Usually: "address alone",
		Text: "Several of them instead of address, the best first: gossip uses all, state sync the first that works."},
	"nodes.NAME.priority": {Values: "1 to 254", Example: "200", Text: "The highest of the routers that are equally fit is master."},
	"nodes.NAME.devices":  {Values: "a map of lan or uplink to device", Example: "{cable: enp3s0}", Usually: "as the lan or uplink says", Text: "Devices that are named otherwise on this router."},

	"vrrp":                {Values: aMap, Example: "{id: 52}", Text: "The election."},
	"vrrp.id":             {Values: "1 to 255", Example: "52", Text: "The number of the election (VRID); nobody else on these networks may use it."},
	"vrrp.version":        {Values: "2 to 3", Example: "3", Text: "Version of VRRP. 2 only beside routers that speak nothing else: it counts whole seconds."},
	"vrrp.advertise":      {Values: "10ms to 40.95s", Example: "100ms", Usually: "100ms; with version 2 1s", Text: "How often the master tells that it is there; a dead one is noticed after three of these. Steps of 10ms; with version 2 whole seconds up to 255s."},
	"vrrp.preempt":        {Values: yesOrNo, Example: "false", Text: "Whether a better router that returns becomes master again."},
	"vrrp.preempt_delay":  {Values: "0s to 24h", Example: "1m", Text: "How long it has heard the master before it does."},
	"vrrp.checksum":       {Values: "one of: pseudo, plain", Example: "plain", Text: "The form that is sent: pseudo as keepalived and FRR do, plain for routers that leave the addresses out. Both are understood."},
	"vrrp.authentication": {Values: "a text of up to 8 characters", Example: "secret", Usually: "none", Text: "The password of version 2, which everyone on the network can read."},
	"vrrp.unicast_only":   {Values: yesOrNo, Example: "true", Text: "No multicast, for networks that lose it."},
	"vrrp.accept":         {Values: yesOrNo, Example: "false", Text: "Whether the virtual addresses answer for themselves, to ping and to services."},
	"vrrp.foreign":        {Values: "a list of IP addresses", Example: "[192.168.77.4]", Usually: "none", Text: "Routers that take part in the election and are not harouter, such as keepalived or FRR."},
	"vrrp.check":          {Values: aMap, Example: "{command: [/usr/local/bin/fit]}", Usually: "none", Text: "A command that must succeed for a router to be fit."},
	"vrrp.check.command":  {Values: "a list of words", Example: "[/usr/local/bin/fit, --fast]", Usually: "none", Text: "Program and arguments; exit code 0 is good."},
	"vrrp.check.interval": {Values: "10ms to 1h", Example: "2s", Text: "How often it runs."},
	"vrrp.check.timeout":  {Values: "1ms to 1m", Example: "1s", Text: "A run that takes longer has failed."},
	"vrrp.check.rise":     {Values: "1 to 1000", Example: "2", Text: "So many good runs in a row, and the router is fit again."},
	"vrrp.check.fall":     {Values: "1 to 1000", Example: "3", Text: "So many bad runs in a row, and it is not."},

	"lans":                     {Values: aList, Example: "[{name: office, device: lan0, virtual_addresses: [192.168.77.1/24]}]", Usually: "none", Text: "The networks whose hosts use the cluster as their gateway."},
	"lans[].name":              {Values: aName, Example: "office", Text: "Its name."},
	"lans[].device":            {Values: aDevice, Example: "lan0", Text: "Its network device; nodes.NAME.devices can say otherwise for one router."},
	"lans[].virtual_addresses": {Values: "a list of 1 to 255 addresses with their prefix lengths", Example: "[192.168.77.1/24]", Text: "What the master holds: the hosts' gateway. Nobody's own address."},
	"lans[].vrid":              {Values: "1 to 255", Example: "52", Usually: "vrrp.id", Text: "The number of the election here, where somebody else has the usual one."},
	"lans[].virtual_mac":       {Values: yesOrNo, Example: "true", Text: "Whether its virtual addresses have the MAC 00:00:5e:00:01:VRID on whichever router is master."},

	"uplinks":                          {Values: aList, Example: "[{name: cable, device: wan1, gateway: 203.0.113.1}]", Usually: "none", Text: "The ISP lines."},
	"uplinks[].name":                   {Values: aName, Example: "cable", Text: "Its name."},
	"uplinks[].device":                 {Values: aDevice, Example: "wan1", Text: "Its network device; nodes.NAME.devices can say otherwise for one router."},
	"uplinks[].id":                     {Values: "1 to 63", Example: "1", Usually: "its place in the list", Text: "Its number in marks, tables and rules. It never changes for a name: a reload that would is refused."},
	"uplinks[].gateway":                {Values: "an IP address, auto, dhcp or ppp", Example: "203.0.113.1", Text: "The ISP's router. auto and dhcp follow the default route that the machine has over the device, in whatever table, as DHCP clients write it; ppp is for a line between two points, which needs none."},
	"uplinks[].virtual_addresses":      {Values: "a list of up to 255 addresses with their prefix lengths", Example: "[203.0.113.10/25]", Usually: "none: the device's own address", Text: "What the master holds, and what flows are translated to. Without any, flows over this line cannot survive a takeover."},
	"uplinks[].weight":                 {Values: "0 to 255", Example: "2", Text: "Its share of the new flows: weight 2 beside weight 1 gets two of three; 0 none."},
	"uplinks[].tier":                   {Values: "1 to 16", Example: "2", Text: "Only the uplinks of the lowest tier that works are used, whatever the method; those that measure see to tiers themselves."},
	"uplinks[].speed":                  {Values: aMap, Example: "{down: 100mbit, up: 20mbit}", Usually: "not known", Text: "What the line can carry."},
	"uplinks[].speed.down":             {Values: "a rate with its unit", Example: "100mbit", Usually: "not known", Text: "Towards the lan."},
	"uplinks[].speed.up":               {Values: "a rate with its unit", Example: "2.5gbit", Usually: "not known", Text: "Towards the ISP."},
	"uplinks[].metered":                {Values: yesOrNo, Example: "true", Text: "A line whose traffic costs: probed ten times more rarely, up to once a minute, and left out of races."},
	"uplinks[].vrid":                   {Values: "1 to 255", Example: "52", Usually: "vrrp.id", Text: "The number in its virtual MAC."},
	"uplinks[].virtual_mac":            {Values: yesOrNo, Example: "true", Text: "As for a lan; needs virtual_addresses."},
	"uplinks[].probe":                  {Values: aMap, Example: "{targets: [198.51.100.1, 198.51.100.2]}", Text: "How the line's health is found out. Down at the latest after fall times interval plus timeout."},
	"uplinks[].probe.method":           {Values: "one of: icmp, tcp, dns, http, arp", Example: "tcp", Text: "How targets are asked that do not say it themselves."},
	"uplinks[].probe.targets":          {Values: "a list of IP addresses or maps", Example: "[198.51.100.1, {address: 198.51.100.2, method: tcp, port: 443}]", Usually: "none: the gateway by ARP", Text: "Hosts behind the line that answer, best not all of one operator. Without any, faults behind the gateway go unseen."},
	"uplinks[].probe.targets.address":  {Values: anAddress, Example: "198.51.100.1", Text: "Who is asked."},
	"uplinks[].probe.targets.method":   {Values: "one of: icmp, arp", Example: "icmp", Usually: "probe.method", Text: "How: also tcp, dns and http. Any answer of the host counts, but not that it cannot serve (SERVFAIL, a status from 500)."},
	"uplinks[].probe.targets.port":     {Values: "1 to 65535", Example: "443", Usually: "443; dns 53", Text: "The port of tcp and dns."},
	"uplinks[].probe.targets.url":      {Values: "an http or https URL", Example: "https://www.example.org/", Usually: "http://ADDRESS/", Text: "What http asks the address for."},
	"uplinks[].probe.targets.name":     {Values: "a name of the DNS", Example: "www.example.org", Usually: "the root", Text: "What dns asks for."},
	"uplinks[].probe.interval":         {Values: "10ms to 1h", Example: "200ms", Text: "Time from round to round."},
	"uplinks[].probe.timeout":          {Values: "1ms to 1m", Example: "200ms", Text: "An answer after that is none; may exceed the interval."},
	"uplinks[].probe.fall":             {Values: "1 to 1000", Example: "3", Text: "So many bad rounds in a row, and the line is down."},
	"uplinks[].probe.rise":             {Values: "1 to 1000", Example: "5", Text: "So many good ones, and it is up again."},
	"uplinks[].probe.quorum":           {Values: "1 up to the number of targets", Example: "1", Text: "So many targets must answer for a round to be good."},
	"uplinks[].probe.loss":             {Values: aMap, Example: "{degraded: 10%, clear: 5%}", Usually: "none", Text: "Lost answers that make the line degraded: it gets a quarter of its weight."},
	"uplinks[].probe.loss.degraded":    {Values: "1% to 100%", Example: "10%", Usually: "none", Text: "Degraded from there."},
	"uplinks[].probe.loss.clear":       {Values: "a share below degraded", Example: "5%", Usually: "half of degraded", Text: "Healthy again from there."},
	"uplinks[].probe.latency":          {Values: aMap, Example: "{degraded: 300ms, clear: 200ms}", Usually: "none", Text: "The same for round trip times."},
	"uplinks[].probe.latency.degraded": {Values: "1ms to 1m", Example: "300ms", Usually: "none", Text: "Degraded from there."},
	"uplinks[].probe.latency.clear":    {Values: "a time below degraded", Example: "200ms", Usually: "half of degraded", Text: "Healthy again from there."},
	"uplinks[].probe.jitter":           {Values: aMap, Example: "{degraded: 30ms}", Usually: "none", Text: "The same for the spread of the round trip times."},
	"uplinks[].probe.jitter.degraded":  {Values: "1ms to 1m", Example: "30ms", Usually: "none", Text: "Degraded from there."},
	"uplinks[].probe.jitter.clear":     {Values: "a time below degraded", Example: "15ms", Usually: "half of degraded", Text: "Healthy again from there."},

	"policies":                           {Values: aList, Example: "[{name: default, method: priority}]", Usually: "default with weighted", Text: "Which traffic goes where: the first that matches wins, the one named default stands last."},
	"policies[].name":                    {Values: aName, Example: "default", Text: "Its name."},
	"policies[].match":                   {Values: aMap, Example: "{protocol: tcp, destination_ports: [25, 587]}", Usually: "everything", Text: "Which traffic: each key that stands here must be true."},
	"policies[].match.lan":               {Values: "names of lans, " + termsOf, Example: "office", Usually: "any", Text: "The lan that it comes from."},
	"policies[].match.source":            {Values: "networks, " + termsOf, Example: "[192.168.77.0/24, {not: 192.168.77.9}]", Usually: "any", Text: "Who sends it; \"@FILE\" reads networks from a file beside this one."},
	"policies[].match.destination":       {Values: "networks, " + termsOf, Example: "\"@streaming\"", Usually: "any", Text: "Where it goes; \"@FILE\" reads networks from a file beside this one."},
	"policies[].match.protocol":          {Values: "protocols, " + termsOf, Example: "tcp", Usually: "any", Text: "Its protocol."},
	"policies[].match.source_ports":      {Values: "ports or ranges, " + termsOf, Example: "1000-2000", Usually: "any", Text: "The sender's ports."},
	"policies[].match.destination_ports": {Values: "ports or ranges, " + termsOf, Example: "[25, 587]", Usually: "any", Text: "The receiver's ports."},
	"policies[].match.dscp":              {Values: "classes, " + termsOf, Example: "46", Usually: "any", Text: "The class in its IP header."},
	"policies[].match.mac":               {Values: "MAC addresses, " + termsOf, Example: "[\"00:11:22:33:44:55\"]", Usually: "any", Text: "The host on the lan."},
	"policies[].match.time":              {Values: "times, " + termsOf, Example: "\"08:00-18:00\"", Usually: "any", Text: "When it starts."},
	"policies[].match.router":            {Values: yesOrNo, Example: "true", Text: "Only what the router itself sends."},
	"policies[].method": {Values: "one of: weighted, priority, overflow, persistence, least-used, lowest-latency, enforced, fastest-response", Example: "priority",
		Text: "How new flows are spread: by weight; over the first of the uplinks that works; over the next one when one is full; what belongs together over the same; over the one with the least load; over the fastest one; over the named ones or none; over the one that answers first."},
	"policies[].uplinks":                {Values: "a list of uplinks", Example: "[cable]", Usually: "all", Text: "Which it may use."},
	"policies[].weights":                {Values: "a map of uplink to 0 to 255", Example: "{cable: 3}", Usually: "the uplinks' own", Text: "Weights for this policy alone."},
	"policies[].bypass":                 {Values: yesOrNo, Example: "true", Text: "Not balanced at all: the machine's main routing table decides."},
	"policies[].persistence":            {Values: aMap, Example: "{by: source}", Text: "What method persistence keeps together, and how long what was found is remembered."},
	"policies[].persistence.by":         {Values: "one of: source-destination, source, destination", Example: "source", Text: "What must be equal."},
	"policies[].persistence.learned":    {Values: yesOrNo, Example: "true", Text: "Remembered per host, rather than computed from its address."},
	"policies[].persistence.timeout":    {Values: "1s to 24h", Example: "10m", Text: "How long it is remembered after the last flow; with method fastest-response, how long after the race."},
	"policies[].overflow":               {Values: aMap, Example: "{enter: 90%, leave: 75%, hold: 5s}", Text: "When method overflow takes the next uplink."},
	"policies[].overflow.enter":         {Values: "above leave, up to 100%", Example: "90%", Text: "Load from which the next uplink is used too."},
	"policies[].overflow.leave":         {Values: "0% or more, below enter", Example: "75%", Text: "Load from which it is left again."},
	"policies[].overflow.hold":          {Values: "0s to 1h", Example: "5s", Text: "How long the load must be so."},
	"policies[].latency_margin":         {Values: aMap, Example: "{percent: 10, time: 5ms, rounds: 3}", Text: "By how much another uplink must be faster for method lowest-latency to change."},
	"policies[].latency_margin.percent": {Values: "0 to 1000", Example: "10", Text: "By so many percent ..."},
	"policies[].latency_margin.time":    {Values: "0s to 1m", Example: "5ms", Text: "... and by so much ..."},
	"policies[].latency_margin.rounds":  {Values: "1 to 1000", Example: "3", Text: "... in so many rounds in a row."},
	"policies[].race":                   {Values: "one of: learn, hold", Example: "hold", Text: "How method fastest-response finds out: in the background for the next flows, or holding the first packet of a TCP connection to a new destination for up to 300 ms, so that it goes the fastest way itself."},
	"policies[].when_none":              {Values: "one of: next, drop, any", Example: "drop", Usually: "next; with method enforced drop", Text: "When none of its uplinks works: try the next policy, drop, or take any uplink."},
	"policies[].on_recovery":            {Values: "one of: keep, move", Example: "move", Text: "Whether flows stay where they are when a better uplink returns."},

	"balance":                {Values: aMap, Example: "{mark_mask: 0x7f0000}", Text: "What the balancing uses of the machine's name spaces."},
	"balance.mark_mask":      {Values: "one run of bits", Example: "0x7f0000", Text: "The bits of the packet mark that are ours."},
	"balance.table_base":     {Values: "256 to 2147483584", Example: "8000", Text: "Routing tables from this plus 1 to this plus 63, and to this plus 163 for policies with router: true. 1 to 189 are allowed too."},
	"balance.rule_priority":  {Values: "1 to 31766", Example: "8000", Text: "Priorities of our ip rules, from this to this plus 999."},
	"balance.flap_hold":      {Values: "a time, or a map", Example: "{hold: 10s, max: 5m}", Usually: "10s doubling to 5m", Text: "How long an uplink that flaps must be fine before it is used again; 0 turns it off."},
	"balance.flap_hold.hold": {Values: "0s to 1h", Example: "10s", Text: "After the first time; twice as long after each further one."},
	"balance.flap_hold.max":  {Values: "10s to 24h", Example: "5m", Text: "The longest; at least hold."},
	"balance.reset_clients":  {Values: yesOrNo, Example: "false", Text: "Whether a host of a lan gets a TCP reset once its connection is gone, as when its uplink died; else what it sends meets silence."},

	"firewall":                    {Values: aMap, Example: "{allow: [{from: wan, protocol: tcp, ports: 22}]}", Text: "What may begin at the uplinks, and with groups at the lans."},
	"firewall.enabled":            {Values: yesOrNo, Example: "false", Text: "Whether anything but pings, what allow names, forwards and the nodes' talk is dropped. Forwards work without it too."},
	"firewall.allow":              {Values: aList, Example: "[{from: wan, protocol: tcp, ports: [22]}]", Usually: "none", Text: "Ports of the router, or of hosts behind it, that are open from outside."},
	"firewall.allow[].from":       {Values: "lan, wan, or the name of a lan or uplink", Example: "wan", Usually: "all uplinks", Text: "By which uplinks: wan are all, unless a lan or uplink is called so, whose name goes first. What comes from a lan is open anyway."},
	"firewall.allow[].to":         {Values: "networks, one or a list", Example: "203.0.113.64/29", Usually: "the router", Text: "Hosts behind the router that are reached from outside by their own addresses: a routed subnet, IPv6."},
	"firewall.allow[].protocol":   {Values: "protocols, one or a list", Example: "tcp", Usually: "tcp with ports, else all", Text: "The protocol."},
	"firewall.allow[].ports":      {Values: "ports or ranges, one or a list", Example: "[22, 8000-8010]", Usually: "all", Text: "The ports."},
	"firewall.allow[].source":     {Values: "networks, one or a list", Example: "198.51.100.0/24", Usually: "any", Text: "Only from there."},
	"firewall.allow[].limit":      {Values: "a rate", Example: "10/m", Usually: "none", Text: "New connections."},
	"firewall.forward":            {Values: aList, Example: "[{port: 443, to: 192.168.77.20}]", Usually: "none", Text: "Ports of the uplinks that lead to a host."},
	"firewall.forward[].port":     {Values: "a port or a range", Example: "443", Text: "The port outside."},
	"firewall.forward[].to":       {Values: "a host, or host:port", Example: "192.168.77.20", Text: "The host inside."},
	"firewall.forward[].protocol": {Values: "tcp, udp or a list of both", Example: "udp", Usually: "tcp", Text: "The protocol."},
	"firewall.forward[].uplinks":  {Values: "a list of uplinks", Example: "[cable]", Usually: "all", Text: "On which lines."},
	"firewall.forward[].source":   {Values: "networks, one or a list", Example: "198.51.100.0/24", Usually: "any", Text: "Only from there."},
	"firewall.forward[].hairpin":  {Values: yesOrNo, Example: "true", Text: "Whether hosts of the lan may use the outer address too."},
	"firewall.forward[].limit":    {Values: "a rate", Example: "10/m", Usually: "none", Text: "New connections."},
	"firewall.groups":             {Values: "a list of lists", Example: "[[office, \":uplinks\"]]", Usually: "everybody to everybody", Text: "Who may talk to whom: a lan begins connections to the lans and uplinks that share a list with it; :lans and :uplinks are all. Others are refused with an answer. Forwards are free."},
	"firewall.icmp_limit":         {Values: "a rate", Example: "10/s", Usually: "500/s", Text: "Pings from outside, of all together."},
	"firewall.syn_limit":          {Values: "a rate", Example: "100/s", Usually: "200/s", Text: "New TCP connections of one source outside."},
	"firewall.log":                {Values: yesOrNo, Example: "false", Text: "Whether what is refused is logged."},
	"firewall.antispoof":          {Values: yesOrNo, Example: "false", Text: "Whether packets are refused that come over the wrong device for their source."},
	"firewall.mss":                {Values: "one of: clamp, off", Example: "clamp", Text: "Whether the segment size of TCP is fitted to the path."},

	"routes":              {Values: aList, Example: "[{to: 10.8.0.0/16, device: tun0}]", Usually: "none", Text: "Networks that are reached another way than over the uplinks: behind a tunnel, a modem, a router in a lan. They are not balanced, and while their way lacks nothing goes there."},
	"routes[].to":         {Values: "a network", Example: "10.8.0.0/16", Text: "The network."},
	"routes[].device":     {Values: aDevice, Example: "tun0", Text: "The device to it; that of a lan or uplink too. One that vanishes and returns has its route again."},
	"routes[].gateway":    {Values: anAddress, Example: "10.9.0.1", Text: "The router to it; without one the network is on the device itself."},
	"routes[].source":     {Values: anAddress, Example: "10.9.0.2", Text: "The router's own source address there, on a router that has it."},
	"routes[].masquerade": {Values: yesOrNo, Example: "true", Text: "Whether what goes there gets the router's address: source where that is a virtual one, so that flows survive a takeover, else the device's own."},

	"conntrack_sync":                  {Values: aMap, Example: "{timeout: 2m}", Text: "Open connections survive a change of the master."},
	"conntrack_sync.enabled":          {Values: yesOrNo, Example: "false", Text: "Whether connections are told to the other routers."},
	"conntrack_sync.timeout":          {Values: "1s to 1h", Example: "2m", Text: "A better router that is not in sync by then raises an alarm and stays backup."},
	"conntrack_sync.preempt_unsynced": {Values: yesOrNo, Example: "true", Text: "It takes the role all the same."},
	"conntrack_sync.ignore":           {Values: networks, Example: "[192.168.90.0/24]", Usually: "none", Text: "Connections from or to them are not told."},
	"conntrack_sync.protocols":        {Values: "a list of tcp, udp, icmp, sctp, gre", Example: "[tcp, udp]", Text: "Those that are."},
	"conntrack_sync.table_size":       {Values: "1 to 16777215", Example: "262144", Usually: "the kernel's", Text: "net.netfilter.nf_conntrack_max, alike on all routers."},

	"services": {Values: "a list of names", Example: "[isc-dhcp-server]", Usually: "none", Text: "Services of the machine that run on the master only, started by systemctl or rc-service once the virtual addresses are there. Do not enable them at boot."},

	"hooks":           {Values: aMap, Example: "{timeout: 10s}", Text: "Scripts that run at events: what is executable in NAME.d, NAME being uplink-up, uplink-down, uplink-long-down, master, backup, fault or post-apply (or up, down, long_down of Net-ISP-Balance)."},
	"hooks.directory": {Values: someText, Example: "/etc/harouter/hooks", Text: "Where they are: beside this file, unless absolute."},
	"hooks.timeout":   {Values: "1ms to 1h", Example: "10s", Text: "One that takes longer is ended."},

	"mail":               {Values: aMap, Example: "{to: admin@example.org, smtp: \"mx.example.org:25\"}", Usually: "none", Text: "Mail at events, sent by the master."},
	"mail.to":            {Values: "an address or a local user, or a list", Example: "[admin@example.org]", Usually: "none", Text: "Who gets it."},
	"mail.from":          {Values: "an address", Example: "router@example.org", Usually: "harouter@ and the host's name", Text: "Who sends it."},
	"mail.smtp":          {Values: "host or host:port", Example: "\"mx.example.org:25\"", Usually: "none: the program sendmail of the machine", Text: "The mail server. Port 25 unless it says another one, with username 587; TLS where the server has it, from the start at port 465."},
	"mail.username":      {Values: someText, Example: "router", Usually: "none", Text: "The user that logs in there, over TLS only."},
	"mail.password_file": {Values: someText, Example: "/etc/harouter/mail.password", Usually: "none", Text: "The file with the password, one line, for root alone (mode 0600); beside this file unless absolute."},

	"webhook":         {Values: aMap, Example: "{url: \"https://example.org/hook\"}", Usually: "none", Text: "Events as JSON by HTTP POST, sent by the master."},
	"webhook.url":     {Values: "an http or https URL", Example: "https://example.org/hook", Usually: "none", Text: "Where they go."},
	"webhook.headers": {Values: "a map of texts", Example: "{X-Token: abc}", Usually: "none", Text: "What stands in the request's header."},

	"ports":        {Values: aMap, Example: "{gossip: 8946}", Text: "Ports between the routers, on each one's address."},
	"ports.gossip": {Values: "1 to 65535", Example: "8946", Text: "Membership, tcp and udp."},
	"ports.sync":   {Values: "1 to 65535", Example: "8947", Text: "State sync, join, and commands between the routers, tcp."},

	"log":            {Values: aMap, Example: "{level: warn}", Text: "How much is said on stderr."},
	"log.level":      {Values: "one of: debug, info, warn, error", Example: "debug", Text: "The least important kind of line that is written."},
	"log.parts":      {Values: "a map of part to level", Example: "{vrrp: debug}", Usually: "none", Text: "Another level for a part of the program."},
	"log.parts.PART": {Values: "one of: debug, info, warn, error", Example: "debug", Usually: "log.level", Text: "PART is one of the program's parts, which an unknown one is answered with."},
}
