package importer

import (
	"fmt"
	"strconv"
	"time"
)

// probeOption is an lsm option that our probes have too.
type probeOption struct {
	key  string // below probe
	text func(n int) string
}

func milliseconds(n int) string { return short(time.Duration(n) * time.Millisecond) }

func rounds(n int) string { return strconv.Itoa(n) }

// short is 10m where Go says 10m0s.
func short(d time.Duration) string {
	switch {
	case d%time.Hour == 0 && d != 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0 && d != 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

// Options of lsm with the units that foolsm 1.0.14 gives them: interval_ms and
// timeout_ms in milliseconds, max_successive_pkts_lost and
// min_successive_pkts_rcvd in probes in a row.
var probeOptions = map[string]probeOption{
	"interval_ms":              {"interval", milliseconds},
	"timeout_ms":               {"timeout", milliseconds},
	"max_successive_pkts_lost": {"fall", rounds},
	"min_successive_pkts_rcvd": {"rise", rounds},
}

// noted are the options that have no key of ours, with what to do instead.
var noted = map[string]string{
	"long_down_time":              "has no key: the scripts of hooks/uplink-long-down.d run when a line was down for 120 s",
	"long_down_email":             "has no key of its own: mail.to gets what warn_email gets, and this too",
	"eventscript":                 "is lsm's own way into Net-ISP-Balance; a script of yours goes to hooks/uplink-up.d and hooks/uplink-down.d",
	"notifyscript":                "has no key: a script goes to hooks/uplink-up.d and hooks/uplink-down.d, the arguments are the same",
	"long_down_eventscript":       "has no key: a script goes to hooks/uplink-long-down.d, the arguments are the same",
	"long_down_notifyscript":      "has no key: a script goes to hooks/uplink-long-down.d, the arguments are the same",
	"unknown_up_notify":           "has no key: the first verdict after a start runs no script",
	"queue":                       "has no key: one worker runs the scripts, one after the other",
	"startup_acceleration":        "has no key: a line that was never lost is up after rise rounds",
	"startup_burst_pkts":          "has no key: harouter probes from its first second on",
	"startup_burst_interval":      "has no key: harouter probes from its first second on",
	"ttl":                         "has no key: probes have the system's TTL",
	"status":                      "has no key: a line is unknown until its first verdict",
	"debug":                       "has no key of the same scale; log: {parts: {probe: debug}} says what the probes see",
	"checkip":                     "is the ping-ip of lines that have none; write probe.targets for each of them",
	"device":                      "is a column of the table; as an option it does nothing",
	"sourceip":                    "has no key: probes leave with the address of their line",
	"name":                        "has no meaning for all lines at once",
	"group":                       "has no key: a probe of several targets with a quorum does the same, probe: {targets: […], quorum: N}",
	"nonexistent_interface_check": "has no key: a device that is not there is a line that is down",
}

// needlessAt are values that say what harouter does anyway.
var needlessAt = map[string]string{
	"long_down_time": "120", "ttl": "0", "status": "2", "debug": "8", "checkip": "127.0.0.1", "unknown_up_notify": "0", "queue": "",
	"startup_acceleration": "0", "startup_burst_pkts": "0", "check_arp": "0",
}

// setting is one of our keys and where its value came from.
type setting struct {
	text string
	note string
	from place
}

// probeSettings are the keys below probe that the lsm options give.
func (im *importer) probeSettings() (all []setting) {
	var down, up option // packet loss
	for _, o := range im.conf.options {
		if value, ok := needlessAt[o.key]; ok && o.value == value {
			im.needless(o.at, o.key+"="+o.value, "harouter does so anyway")
			continue
		}
		if p, ok := probeOptions[o.key]; ok {
			if n, ok := im.number(o); ok {
				all = replace(all, setting{p.key + ": " + p.text(n), o.key, o.at}, p.key)
			}
			continue
		}
		switch text, known := noted[o.key]; {
		case o.key == "max_packet_loss":
			down = o
		case o.key == "min_packet_loss":
			up = o
		case o.key == "check_arp":
			all = replace(all, setting{"method: arp", o.key + "=" + o.value, o.at}, "method")
		case known:
			im.later(o.at, o.key+"="+o.value, o.key+" "+text)
		default:
			im.later(o.at, o.key+"="+o.value, fmt.Sprintf("%s is no option of lsm that this knows", quoted(o.key)))
		}
	}
	return append(all, im.loss(down, up)...)
}

// replace puts a setting in the place of an earlier one of the same key: of two
// lines the original takes the last.
func replace(all []setting, s setting, key string) []setting {
	for i := range all {
		if k, _, _ := cut(all[i].text); k == key {
			all[i] = s
			return all
		}
	}
	return append(all, s)
}

func (im *importer) number(o option) (int, bool) {
	n, err := strconv.Atoi(o.value)
	if err != nil || n < 0 || n > 1e9 {
		im.fail(o.at, "%s: %s is no whole number; allowed: one such as 1000", o.key, quoted(o.value))
		return 0, false
	}
	return n, true
}

// loss makes max_packet_loss and min_packet_loss, which count lost probes of the
// last hundred, percents.
func (im *importer) loss(down, up option) []setting {
	if down.key == "" {
		if up.key != "" {
			im.later(up.at, up.key+"="+up.value, "min_packet_loss says nothing without max_packet_loss; write both as probe: {loss: {degraded: 20%, clear: 10%}}")
		}
		return nil
	}
	n, ok := im.number(down)
	if !ok {
		return nil
	}
	s := setting{fmt.Sprintf("loss: {degraded: %d%%}", n), down.key, down.at}
	if up.key != "" {
		m, ok := im.number(up)
		switch {
		case ok && m < n:
			s.text = fmt.Sprintf("loss: {degraded: %d%%, clear: %d%%}", n, m)
			s.note += ", min_packet_loss"
		case ok:
			im.later(up.at, up.key+"="+up.value, fmt.Sprintf("min_packet_loss %d is not below max_packet_loss %d; a line is well again at half of that", m, n))
		}
	}
	s.note += "; it took the line down, here the line gets a quarter of its share"
	return []setting{s}
}
