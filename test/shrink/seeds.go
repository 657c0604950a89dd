package shrink

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Seeds plays all seeds below to, on all processors, until most have failed. play
// returns nil, or what tells of the failure. With HAROUTER_SOAK=5m it plays
// others, for so long; with FROM-TO in the variable env those.
func Seeds(t testing.TB, env string, to uint64, most int, play func(seed uint64) (tell func())) {
	t.Helper()
	from, end := uint64(0), time.Time{}
	if text, ok := os.LookupEnv("HAROUTER_SOAK"); ok {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("HAROUTER_SOAK: %v", err)
		}
		from, to, end = rand.Uint64()>>1, 1<<63, time.Now().Add(d)
	}
	if text, ok := os.LookupEnv(env); ok {
		if _, err := fmt.Sscanf(text, "%d-%d", &from, &to); err != nil {
			t.Fatalf("%s=%s: %v", env, text, err)
		}
	}
	var next, failed atomic.Uint64
	next.Store(from)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for failed.Load() < uint64(most) && (end.IsZero() || time.Now().Before(end)) {
				seed := next.Add(1) - 1
				if seed >= to {
					return
				}
				if tell := play(seed); tell != nil {
					failed.Add(1)
					tell()
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds", min(next.Load(), to)-from)
}
