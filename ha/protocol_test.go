package ha

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"harouter/vrrp"
)

// TestProtocolAlarms: settings that differ between speakers of one virtual
// router name the key to set.
func TestProtocolAlarms(t *testing.T) {
	for _, c := range []struct {
		reason     vrrp.DropReason
		code, knob string
	}{
		{vrrp.DropVersion, AlarmVersionMix, "vrrp.version"},
		{vrrp.DropCARP, AlarmForeignVRRP, "vrrp.id"},
		{vrrp.DropAuthentication, AlarmBadAdvert, "vrrp.authentication"},
		{vrrp.DropInterval, AlarmBadAdvert, "vrrp.advertise"},
	} {
		t.Run(string(c.reason), func(t *testing.T) {
			s := booted(t, "r1", "r2")
			from := netip.MustParseAddr("192.168.77.7")
			s.nodes["r1"].handle(Dropped{Part: "vrrp", Reason: string(c.reason), Source: from})
			a := s.nodes["r1"].m.alarms[alarmKey{c.code, from.String()}]
			if a == nil || !strings.Contains(a.text, c.knob) {
				t.Fatalf("alarm %+v, want %s with %s", a, c.code, c.knob)
			}
			s.run(alarmHold + time.Second)
			if len(s.nodes["r1"].m.alarms) != 0 {
				t.Errorf("still there: %v", s.nodes["r1"].m.alarms)
			}
		})
	}
}

// TestVRIDOfLan: a lan with a number of its own is heard by that one, unicast
// by the cluster's.
func TestVRIDOfLan(t *testing.T) {
	for _, c := range []struct {
		name, lan string
		vrid      uint8
		alarm     bool // an unknown sender was listened to
	}{
		{"the lan's own", "lab", 52, true},
		{"the cluster's there", "lab", 51, false},
		{"a lan without", "office", 51, true},
		{"the other lan's", "office", 52, false},
		{"unicast", "", 51, true},
		{"unicast with a lan's", "", 52, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := booted(t, "r1", "r2")
			m := s.nodes["r1"].m
			m.cfg.VRIDs = map[string]uint8{"lab": 52}
			ad := adv(1)
			ad.VRID = c.vrid
			for range 10 {
				s.nodes["r1"].handle(Advert{Link: c.lan, Source: netip.MustParseAddr("192.168.77.7"), Advert: ad})
				s.run(100 * time.Millisecond)
			}
			a := m.alarms[alarmKey{AlarmForeignVRRP, "192.168.77.7"}]
			if (a != nil) != c.alarm {
				t.Fatalf("alarm %+v", a)
			}
			if a != nil && !strings.Contains(a.text, "VRID "+map[uint8]string{51: "51", 52: "52"}[c.vrid]+" ") {
				t.Error(a.text)
			}
		})
	}
}

// TestVersion2Cluster: the times of version 2, here with A of 2 s, in which Skew
// is (256-150)/256 of a second whatever A is; a planned move costs nothing there either.
func TestVersion2Cluster(t *testing.T) {
	boot := func(t *testing.T) *sim {
		s := newSim(t, "r1", "r2")
		for _, n := range s.nodes {
			n.disk = "version=2 " + n.disk
			var err error
			if n.cfg, err = simFile(n.name, n.disk); err != nil {
				t.Fatal(err)
			}
		}
		s.boot("r1", "r2")
		s.run(14 * time.Second)
		s.master("r1")
		return s
	}
	t.Run("crash", func(t *testing.T) {
		s := boot(t)
		for turn := s.nodes["r1"].adverts; s.nodes["r1"].adverts == turn; {
			s.run(time.Millisecond)
		}
		at := s.now
		s.power("r1")
		s.run(8 * time.Second)
		s.master("r2")
		none, double := s.coverage(at)
		// From the last advert on it is 3A+Skew: that was not long before at.
		within(t, "nobody holds the addresses", none, 6*time.Second+420*time.Millisecond)
		within(t, "two hold them", double, 0)
		if none < 4*time.Second {
			t.Errorf("nobody holds the addresses: %v, the peer may not be that quick", none)
		}
	})
	t.Run("failover", func(t *testing.T) {
		s := boot(t)
		at := s.now
		s.command("r1", VerbFailover, "r2")
		s.run(3 * time.Second)
		s.master("r2")
		none, _ := s.coverage(at)
		within(t, "nobody holds the addresses", none, 0)
	})
}

// TestReloadOfVersion: the nodes change over a moment apart, and hear each
// other's adverts no more in between; nobody else becomes master, and no alarm
// stays.
func TestReloadOfVersion(t *testing.T) {
	s := booted(t, "r1", "r2")
	at := s.now
	for _, version := range []string{"version=2 ", "version=3 ", "version=2 "} {
		for _, n := range s.all() {
			n.disk = version + "cable=2 nodes=r1,r2"
			n.seen()
		}
		s.reload("r2", "")
		s.run(15 * time.Second)
		s.master("r1")
		for k, a := range s.nodes["r2"].m.alarms {
			t.Errorf("%s: alarm %v: %s", version, k, a.text)
		}
	}
	none, double := s.coverage(at)
	within(t, "nobody holds the addresses", none, 0)
	within(t, "two hold them", double, 0)
}

// TestOwnOn: a tie with a foreign speaker is decided by the address that our
// adverts leave the lan with (RFC 9568 §6.4.3).
func TestOwnOn(t *testing.T) {
	for _, c := range []struct {
		name, lan string
		on        []string
		want      string // "" none
	}{
		{"the admin's", "office", []string{"192.168.77.1/24", "169.254.51.1/32", "192.168.77.11/24"}, "192.168.77.11"},
		{"ours, where there is none", "office", []string{"192.168.77.1/24", "169.254.51.1/32"}, "169.254.51.1"},
		{"none", "office", []string{"192.168.77.1/24"}, ""},
		{"unicast", "", []string{"192.168.77.11/24"}, ""},
		{"over IPv6", "office six", []string{"192.168.77.1/24", "192.168.77.11/24", "2001:db8::2/64", "fe80::2/64"}, "fe80::2"},
		{"over IPv6, none", "office six", []string{"192.168.77.11/24", "2001:db8::2/64"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := booted(t, "r1", "r2")
			m := s.nodes["r1"].m
			m.links["lan0"] = Link{Present: true, Carrier: true, Addresses: prefixes(c.on...)}
			want := netip.Addr{}
			if c.want != "" {
				want = netip.MustParseAddr(c.want)
			}
			if got := m.ownOn(strings.CutSuffix(c.lan, " six")); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
