package ha

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// news are the sync events of a node: "from->to", and how many changes were not
// told before.
func (s *sim) news(node string) (out []string) {
	for _, l := range s.log {
		f := strings.Fields(l)
		if len(f) < 5 || f[1] != node || f[2] != "sync" {
			continue
		}
		text := f[4]
		if i := slices.Index(f, "changes)"); i > 0 {
			text += " (" + f[i-1] + ")"
		}
		out = append(out, text)
	}
	return out
}

func TestSyncNews(t *testing.T) {
	type step struct {
		state SyncState
		lasts time.Duration
	}
	flap := func(n int, lasts time.Duration) (out []step) {
		for range n {
			out = append(out, step{SyncStale, lasts}, step{SyncSyncing, 10 * time.Millisecond}, step{SyncSynced, lasts})
		}
		return out
	}
	for name, c := range map[string]struct {
		steps []step
		want  []string
	}{
		"nothing": {nil, nil},
		"lost and found": {[]step{{SyncStale, time.Second}, {SyncSyncing, time.Second}, {SyncSynced, time.Second}},
			[]string{"synced->stale", "stale->syncing", "syncing->synced"}},
		"compared anew":           {[]step{{SyncSyncing, time.Second}, {SyncSynced, time.Minute}}, nil},
		"compared anew, and long": {[]step{{SyncSyncing, 3 * time.Second}, {SyncSynced, time.Minute}}, []string{"synced->syncing", "syncing->synced"}},
		"restart":                 {[]step{{SyncConnecting, time.Second}, {SyncSynced, time.Second}}, []string{"synced->connecting", "connecting->synced"}},
		"flaps": {flap(100, 500*time.Millisecond), []string{
			"synced->stale", "stale->syncing", "syncing->synced", "synced->stale", "stale->syncing", "syncing->synced",
			"synced->stale (163)", "stale->syncing", "syncing->synced", "synced->stale", "stale->syncing", "syncing->synced",
			"synced->synced (126)",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := inSync(t, "", "r1", "r2")
			if diff := cmp.Diff([]string{"connecting->synced"}, s.news("r1")); diff != "" {
				t.Error(diff)
			}
			s.run(time.Minute)
			for o := range s.nodes["r1"].flows.states { // the sim tells of no change any more
				s.nodes["r1"].flows.states[o] = SyncSynced
			}
			s.log = nil
			for _, st := range c.steps {
				s.nodes["r1"].handle(Synced{Node: "r2", State: st.state})
				s.run(st.lasts)
			}
			s.run(2 * time.Minute)
			if diff := cmp.Diff(c.want, s.news("r1")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
