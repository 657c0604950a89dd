package dataplane

import "testing"

func TestForwarded(t *testing.T) {
	const snmp = "Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos\n" +
		"Ip: 1 64 323579 0 0 4711 0\nIcmp: InMsgs\nIcmp: 7\n"
	const snmp6 = "Ip6InReceives                   \t10\nIp6OutForwDatagrams             \t42\n"
	for name, c := range map[string]struct {
		read func([]byte) (uint64, error)
		text string
		want uint64
		ok   bool
	}{
		"IPv4":           {forwarded4, snmp, 4711, true},
		"no counter":     {forwarded4, "Ip: Forwarding\nIp: 1\n", 0, false},
		"no numbers":     {forwarded4, "Ip: ForwDatagrams\n", 0, false},
		"no number":      {forwarded4, "Ip: ForwDatagrams\nIp: many\n", 0, false},
		"nothing":        {forwarded4, "", 0, false},
		"IPv6":           {forwarded6, snmp6, 42, true},
		"IPv6, too long": {forwarded6, "Ip6OutForwDatagrams 1 2\n", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.read([]byte(c.text))
			if got != c.want || err == nil != c.ok {
				t.Errorf("%d, %v", got, err)
			}
		})
	}
	if _, err := Forwarded(); err != nil {
		t.Error(err)
	}
}
