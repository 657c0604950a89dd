package config

import (
	"fmt"
	"time"
)

func (d *decoder) firewall(t *table, c *Firewall) {
	defer t.close()
	take(t, "enabled", &c.Enabled, boolean)
	t.rows("allow", func(row *table, _ int) { d.allow(row, c) })
	t.rows("forward", func(row *table, _ int) { d.forward(row, c) })
	d.groups(t, c)
	take(t, "icmp_limit", &c.ICMPLimit, rate)
	take(t, "syn_limit", &c.SYNLimit, rate)
	take(t, "log", &c.Log, boolean)
	take(t, "antispoof", &c.Antispoof, boolean)
	take(t, "mss", &c.MSS, oneOf(MSSClamp, MSSOff))
}

func (d *decoder) conntrackSync(t *table, c *ConntrackSync) {
	defer t.close()
	take(t, "enabled", &c.Enabled, boolean)
	take(t, "timeout", &c.Timeout, duration(time.Second, time.Hour, 1))
	take(t, "preempt_unsynced", &c.PreemptUnsynced, boolean)
	take(t, "ignore", &c.Ignore, listOf(network))
	take(t, "protocols", &c.Protocols, listOf(oneOf("tcp", "udp", "icmp", "sctp", "gre")))
	take(t, "table_size", &c.TableSize, number(1, 1<<24-1)) // the replication numbers them with 24 bits
}

func (d *decoder) balance(t *table, c *Balance) {
	defer t.close()
	maskField := take(t, "mark_mask", &c.MarkMask, mask)
	base := take(t, "table_base", &c.TableBase, number(1, 1<<31-1-maxID))
	if f := base; f.ok && c.TableBase+maxID >= 253 && c.TableBase <= 255 {
		d.fail(f.v, "%s: tables %d to %d would touch the kernel's own 253, 254 and 255; allowed: 1 to 189, or from 256",
			f.path(), c.TableBase, c.TableBase+maxID)
	}
	// Behind local (0), before main (32766), with all of our thousand.
	take(t, "rule_priority", &c.RulePriority, number(1, 31766))
	d.flapHold(t, &c.FlapHold)
	take(t, "reset_clients", &c.ResetClients, boolean)
	d.facts.mask = maskField.v
}

// flapHold is a time, or {hold: …, max: …}.
func (d *decoder) flapHold(t *table, c *FlapHold) {
	const or = "{hold: 10s, max: 5m} (doubling from one to the other); 0 turns it off"
	hold := duration(0, time.Hour, 1)
	f := t.field("flap_hold")
	if f.v == nil || f.v.kind != mapping {
		took := take(t, "flap_hold", &c.Hold, func(v *value) (time.Duration, error) {
			if v.kind == list {
				return 0, fmt.Errorf("%s stands here; allowed: a time such as 10s, or %s", v.kind, or)
			}
			got, err := hold(v)
			if err != nil {
				err = fmt.Errorf("%w, or %s", err, or)
			}
			return got, err
		})
		if took.ok {
			c.Max = max(c.Max, c.Hold)
		}
		return
	}
	row := d.table(f.v, t.at, f.path())
	defer row.close()
	from := take(row, "hold", &c.Hold, hold)
	to := take(row, "max", &c.Max, duration(0, 24*time.Hour, 1))
	switch {
	case to.v == nil:
		c.Max = max(c.Max, c.Hold)
	case to.ok && (from.v == nil || from.ok) && c.Max < c.Hold:
		d.fail(to.v, "%s: %s is less than hold (%s); allowed: at least that, up to 24h", to.path(), to.v.text, showDuration(c.Hold))
	}
}

func (d *decoder) ports(t *table, c *Ports) {
	defer t.close()
	gossip := take(t, "gossip", &c.Gossip, number[uint16](1, 65535))
	sync := take(t, "sync", &c.Sync, number[uint16](1, 65535))
	if c.Gossip == c.Sync {
		f := sync
		if f.v == nil {
			f = gossip
		}
		d.fail(f.at(), "ports: gossip and sync are both %d; allowed: two different ports", c.Sync)
	}
}

func (d *decoder) log(t *table, c *Log) {
	defer t.close()
	level := oneOf(LevelDebug, LevelInfo, LevelWarn, LevelError)
	take(t, "level", &c.Level, level)
	parts := t.sub("parts")
	for _, part := range LogParts {
		l := c.Level
		if f := take(parts, part, &l, level); f.ok {
			if c.Parts == nil {
				c.Parts = map[string]Level{}
			}
			c.Parts[part] = l
		}
	}
	parts.close()
}
