package importer

import (
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"harouter/ha/config"
)

// FuzzImport: whatever stands in the files, there is a file that config.Parse takes
// and that another node can join, or an error with its place.
func FuzzImport(f *testing.F) {
	h := func(path string) string { return string(read(f, path)) }
	f.Add(h("testdata/home/balance.conf"), h("testdata/home/balance/firewall/01.accept"), h("testdata/home/balance/firewall/02.forwardings.pl"))
	f.Add(router+"mode=failover\nmax_packet_loss=0\ninterval_ms=1\n", h("testdata/home/balance/routes/01.routes"), h("testdata/home/balance/routes/02.routes.pl"))
	for _, conf := range []string{"A a isp", "A eth1:0 lan\nB eth1:1 lan\nC eth1 isp", "A a isp x.y 1e9 ::1\nB b isp - 0.001", "mode=\nwarn_email=,;\"\\\nforwarding_group=::", "\ufeffA\u2028 a isp", "A a lan #\nNULL b lan\n~ c isp"} {
		f.Add(conf, "iptables -t mangle -A PREROUTING -p \"'\\\" -j MARK-A", "$B->forward(1=>'::1'); $B->force_route('A','-p'=>\"a\\\"\n}{\");")
	}
	f.Add("A a isp", "ip route add ::/0 dev a\nip route add 1.2.3.4/-1 dev a", "for my $x (1,2) { for my $y ($x,$x) { $B->iptables([map {\"-A INPUT -p tcp --dport $_\"} ($x,$y)]) } }")
	f.Add("A a isp", "iptables -A INPUT -p tcp --dport 1:", "=x\n=cut\nq( qw<a> <<X\nX\n$' @x %y &z =~ s/'/")
	devices := machine()
	r2 := config.NewNode{Name: "r2", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, Priority: 100}
	f.Fuzz(func(t *testing.T, conf, rules, perl string) {
		in := Input{Conf: File{Path: "balance.conf", Data: []byte(conf)}, Cluster: "home", Node: "r1", Address: netip.MustParseAddr("192.0.2.1"), Devices: devices,
			Beside: []File{{"firewall/a", "balance/firewall/a", []byte(rules)}, {"firewall/b.pl", "balance/firewall/b.pl", []byte(perl)}}}
		text, said := Import(in)
		sources := map[string]string{"balance.conf": conf, "balance/firewall/a": rules, "balance/firewall/b.pl": perl}
		for _, p := range said {
			lines := strings.Split(strings.TrimPrefix(strings.ReplaceAll(sources[p.File], "\r\n", "\n"), "\ufeff"), "\n")
			if p.Text == "" || !utf8.ValidString(p.Error()) || strings.ContainsAny(p.Text, "\n\x00\x1b") || p.Line > len(lines) ||
				p.Line > 0 && (p.Col < 1 || p.Col > utf8.RuneCountInString(lines[p.Line-1])+1 || strings.Count(p.Excerpt, "\n") != 1) {
				t.Fatalf("bad problem %+v", p)
			}
			if p.Line == 0 {
				t.Fatalf("without a place: %+v", p)
			}
		}
		if (text == nil) != (said.Err() != nil) {
			t.Fatalf("text %v with %v", text != nil, said.Err())
		}
		if text == nil {
			return
		}
		c, problems := config.Parse("x", text)
		if problems.Err() != nil {
			t.Fatalf("%v\n%s", problems.Err(), text)
		}
		if len(c.Nodes) != 1 {
			t.Fatalf("%d nodes", len(c.Nodes))
		}
		if _, err := config.AddNode(text, r2); err != nil && !strings.Contains(err.Error(), "192.0.2.2") {
			t.Fatalf("another node: %v\n%s", err, text)
		}
		again, _ := Import(in)
		if string(again) != string(text) {
			t.Fatal("not the same twice")
		}
	})
}
