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
