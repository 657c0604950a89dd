package config

import "time"

// A metered uplink is probed less often: ten times the interval, but no slower
// than once a minute for that. A ping each second, there and back with its 104
// bytes, is 270 MB in a month, for each target and each node; every 10 s it is
// 27 MB, and what others do on such lines (mwan3 and its like). Beyond a minute
// nothing is saved that counts, and a dead line would stay in the pool for long.
const (
	meteredFactor  = 10
	meteredSlowest = time.Minute
)

// ProbeInterval is the time from one round of probes of the uplink to the next.
// Down at the latest after Fall of these and the timeout.
func (u Uplink) ProbeInterval() time.Duration {
	if !u.Metered {
		return u.Probe.Interval
	}
	return min(meteredFactor*u.Probe.Interval, max(u.Probe.Interval, meteredSlowest))
}
