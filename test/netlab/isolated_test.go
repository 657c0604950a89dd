package netlab

import (
	"strings"
	"testing"
)

func TestIsolatedSeesOnlyLoopback(t *testing.T) {
	if !Isolated(t) {
		return
	}
	if out := strings.TrimSpace(Sh(t, "ip -o link | wc -l")); out != "1" {
		t.Fatalf("links in a fresh namespace: %s, want 1", out)
	}
}
