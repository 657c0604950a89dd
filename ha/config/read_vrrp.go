package config

import (
	"net/netip"
	"time"
)

func (d *decoder) vrrp(t *table, c *VRRP) {
	defer t.close()
	take(t, "id", &c.ID, number[uint8](1, 255))
	take(t, "version", &c.Version, number[uint8](2, 3))
	interval := duration(10*time.Millisecond, 40950*time.Millisecond, 10*time.Millisecond)
	if c.Version == 2 { // its adverts have one byte for it, which counts seconds (RFC 3768 §5.3.7)
		c.Advertise, interval = defaultAdvertise2, duration(time.Second, 255*time.Second, time.Second)
	}
	take(t, "advertise", &c.Advertise, interval)
	take(t, "preempt", &c.Preempt, boolean)
	take(t, "preempt_delay", &c.PreemptDelay, duration(0, 24*time.Hour, 1))
	take(t, "checksum", &c.Checksum, oneOf(ChecksumPseudo, ChecksumPlain))
	password := take(t, "authentication", &c.Authentication, text(8))
	if password.ok && c.Version != 2 {
		d.fail(password.v, "%s: only version 2 has a password; allowed: none, or vrrp.version: 2", password.path())
	}
	take(t, "unicast_only", &c.UnicastOnly, boolean)
	take(t, "accept", &c.Accept, boolean)
	each(t, "foreign", host, func(v *value, a netip.Addr) {
		c.Foreign = append(c.Foreign, a)
		d.facts.own(a, "", foreignRouter, v)
	})
	d.command(t.sub("check"), &c.Check)
}

func (d *decoder) command(t *table, c *Check) {
	defer t.close()
	take(t, "command", &c.Command, listOf(text(4096)))
	take(t, "interval", &c.Interval, duration(10*time.Millisecond, time.Hour, 1))
	take(t, "timeout", &c.Timeout, duration(time.Millisecond, time.Minute, 1))
	take(t, "rise", &c.Rise, number(1, 1000))
	take(t, "fall", &c.Fall, number(1, 1000))
}
