package integration

import (
	"os"
	"testing"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

func TestMain(m *testing.M) {
	netlab.Main()
	os.Exit(m.Run())
}

// pair is a running standard pair; r1 is master.
func pair(t *testing.T, o netlab.PairOptions, config string) *site.Cluster {
	t.Helper()
	c := installed(t, o, config)
	must(t, c.Up("r1", "r2"))
	return c
}

// pairOf is pair for a site that is not quite the standard one.
func pairOf(t *testing.T, spec netlab.Spec) *site.Cluster {
	t.Helper()
	c := installedOn(t, spec, site.Config)
	must(t, c.Up("r1", "r2"))
	return c
}

// installed is a standard pair with files, and no daemon yet.
func installed(t *testing.T, o netlab.PairOptions, config string) *site.Cluster {
	t.Helper()
	return installedOn(t, netlab.Pair(o), config)
}

func installedOn(t *testing.T, spec netlab.Spec, config string) *site.Cluster {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("integration tests need root (network namespaces): run them with sudo")
	}
	s := netlab.ForTest(t, spec)
	_, err := s.Serve("net")
	must(t, err)
	c, err := site.Install(s, config)
	must(t, err)
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// quietly is atMost for what a client saw: what the client itself was late, on
// a machine that stood still, is not the site's.
func quietly(t *testing.T, what string, r *netlab.Report, got, bound time.Duration, ideal string) {
	t.Helper()
	atMost(t, what, got, bound+r.Lag, ideal)
}

// atMost fails if a measured time exceeds its bound; ideal says what it should
// be on a quiet machine.
func atMost(t *testing.T, what string, got, bound time.Duration, ideal string) {
	t.Helper()
	t.Logf("%s: %v (bound %v, ideal %s)", what, got.Round(100*time.Microsecond), bound, ideal)
	if got > bound {
		t.Errorf("%s: %v, at most %v", what, got, bound)
	}
}
