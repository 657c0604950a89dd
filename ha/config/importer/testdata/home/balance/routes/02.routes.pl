$B->add_route('10.8.1.0/24'=>'tun1',1);
$B->add_route('192.168.200.1' => 'eth0');
