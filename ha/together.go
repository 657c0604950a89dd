package ha

import "time"

// Together is how long a part waits that does something every so often: until
// the next multiple of that on the clock. What an idle node costs is waking up;
// so its parts wake up at the same moment, and those of the others, to whom they
// talk, too. Where the clock is set, only that moment moves. It is never longer than
// every, nor so short that it could be the same moment once more, as where the
// clock is a little slow.
func Together(now time.Time, every time.Duration) time.Duration {
	past := time.Duration(now.UnixNano() % int64(every))
	if past < 0 { // before 1970
		past += every
	}
	if wait := every - past; wait >= every/8 {
		return wait
	}
	return every
}
