package netlab

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// ForTest builds a site that lives as long as the test. If the test fails, the
// state of the routers and the ends of all logs are in its output.
func ForTest(t testing.TB, spec Spec) *Site {
	t.Helper()
	s, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			var b bytes.Buffer
			s.Dump(&b)
			t.Log(b.String())
		}
		if err := s.Close(); err != nil {
			t.Errorf("close site: %v", err)
		}
	})
	return s
}

// Dump writes what a person wants to see after a failure: addresses, rules,
// routes and firewall of the routers, and the last lines of every log.
func (s *Site) Dump(w io.Writer) {
	for _, n := range s.nodes {
		if n.Kind != KindRouter || !n.on() {
			continue
		}
		fmt.Fprintf(w, "=== %s: addresses\n", n.Name)
		_ = n.in(func() error { // what cannot be shown is shown as that
			for _, command := range [][]string{{"ip", "-brief", "address"}, {"nft", "list", "ruleset"}} {
				text, err := run("", command[0], command[1:]...)
				fmt.Fprintf(w, "%s", text)
				if err != nil {
					fmt.Fprintln(w, err)
				}
			}
			return nil
		})
		routes, err := n.RouteDump()
		fmt.Fprintf(w, "=== %s: routes\n%s", n.Name, routes)
		if err != nil {
			fmt.Fprintln(w, err)
		}
	}
	logs, _ := filepath.Glob(filepath.Join(s.Dir, "*", "*.log"))
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil || len(text) == 0 {
			continue
		}
		fmt.Fprintf(w, "=== %s\n%s\n", log, tail(text, 150))
	}
}

// tail is the last lines of a text.
func tail(text []byte, lines int) []byte {
	text = bytes.TrimRight(text, "\n")
	from := len(text)
	for ; lines > 0 && from > 0; lines-- {
		from = bytes.LastIndexByte(text[:from], '\n')
	}
	return text[from+1:]
}
