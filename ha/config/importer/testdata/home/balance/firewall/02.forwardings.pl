# Perl, as its documentation shows it.
$B->forward(80 => '192.168.10.35');
$B->forward(81 => '192.168.10.35:8080','tcp','udp');
$B->forward_with_snat(443 => '192.168.10.35');
$B->forward(23 => '192.168.10.35:22');

# mail goes out by the line whose provider relays it
$B->force_route('CABLE',-syn,-p=>'tcp',-dport=>25);
$B->force_route('eth5','--syn -p tcp -d 198.51.100.0/24');

$B->iptables("-A INPUT -p tcp -s",$B->net($_),"--syn --dport ssh -j ACCEPT") foreach $B->lan_services;
$B->iptables(["-A FORWARD -p udp --source-port domain -d $_ -j ACCEPT",
              "-A FORWARD -p udp --source-port ntp    -d $_ -j ACCEPT"]
    ) foreach map {$B->net($_)} $B->lan_services;

my $web = '192.168.10.35';
for my $port (8001, 8002) {
    $B->forward($port => $web);
}
if (-e '/etc/guests') {
    $B->forward(2222 => '192.168.10.2:22');
}
