package balancer

import "time"

// Hours are times of the week in which a policy holds: on these days, from a
// minute of the day to before another. One that ends at or before its beginning
// goes on into the next day.
type Hours struct {
	Days     [7]bool // by time.Weekday
	From, To int     // minutes since midnight, 0…1440; To 1440: the end of the day
}

// has tells whether a time is within; only its zone, day and minute count.
func (h Hours) has(t time.Time) bool {
	day, minute := t.Weekday(), t.Hour()*60+t.Minute()
	if h.From < h.To {
		return h.Days[day] && h.From <= minute && minute < h.To
	}
	before := (day + 6) % 7
	return h.Days[day] && h.From <= minute || h.Days[before] && minute < h.To
}

// Closed names the policies whose time it is not, nil if there are none.
func (c *Config) Closed(now time.Time) (closed map[string]bool) {
	for _, p := range c.Policies {
		if len(p.Hours) == 0 && len(p.NotHours) == 0 {
			continue
		}
		open := len(p.Hours) == 0
		for _, h := range p.Hours {
			open = open || h.has(now)
		}
		for _, h := range p.NotHours {
			open = open && !h.has(now)
		}
		if !open {
			if closed == nil {
				closed = map[string]bool{}
			}
			closed[p.Name] = true
		}
	}
	return closed
}
