package vrrp

import "time"

// Terms are what a receiver asks of an advert that Parse took: the rules of
// RFC 9568 §7.1 and RFC 3768 §7.1 that compare it with the own settings.
type Terms struct {
	Version  Version       // zero: any, with any interval and password
	Interval time.Duration // A, of version 2 only: version 3 learns the master's
	Password string        // of version 2; "" none may be there
}

// Refuse says why an advert is not taken, "" if it is. What another list of
// addresses means is not for the receiver of a packet to judge: it is taken.
func (t Terms) Refuse(a Advert) DropReason {
	switch {
	case t.Version == 0:
	case a.Version != t.Version: // RFC 9568 §8.4: no interoperation without being told to
		return DropVersion
	case t.Version != Version2:
	case a.Password != t.Password:
		return DropAuthentication
	case a.Interval != t.Interval:
		return DropInterval
	}
	return ""
}
