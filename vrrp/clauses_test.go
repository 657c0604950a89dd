package vrrp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// section is one script of a file in testdata/clauses.
type section struct{ name, script string }

func sections(t *testing.T, file string) (out []section) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if name, begins := strings.CutPrefix(line, "== "); begins {
			out = append(out, section{name: strings.TrimSpace(name)})
		} else if len(out) > 0 {
			out[len(out)-1].script += line
		}
	}
	return out
}

// TestClauses plays the scripts of testdata/clauses, each from its beginning:
// what the clause of that name makes the machine do, and what it does not.
// -update rewrites them; read the difference.
func TestClauses(t *testing.T) {
	files, err := filepath.Glob("testdata/clauses/*.txt")
	if err != nil || len(files) < 15 {
		t.Fatalf("clauses: %v %v", files, err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			var all strings.Builder
			for _, s := range sections(t, f) {
				t.Run(s.name, func(t *testing.T) {
					got := play(t, s.script)
					all.WriteString("== " + s.name + "\n" + got)
					if d := cmp.Diff(s.script, got); d != "" && !*update {
						t.Errorf("-want +got:\n%s", d)
					}
				})
			}
			if *update {
				if err := os.WriteFile(f, []byte(all.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestNoStorm: two masters of which neither gives way (one address twice)
// answer each other, but no faster than the limit.
func TestNoStorm(t *testing.T) {
	now := time.Unix(1000, 0)
	a, b := NewMachine(MachineConfig{Priority: 100, Interval: time.Second, Rank: ip("192.0.2.1")}), NewMachine(MachineConfig{Priority: 100, Interval: time.Second, Rank: ip("192.0.2.1")})
	for _, m := range []*Machine{a, b} {
		m.Handle(Start{}, now)
		m.Handle(Tick{}, now.Add(time.Minute))
		if m.State() != Master {
			t.Fatal(m.State())
		}
	}
	now = now.Add(time.Minute)
	heard := Heard{Speaker: "x", Rank: ip("192.0.2.1"), Priority: 100, Interval: time.Second}
	adverts, announcements := 0, 0
	answers := func(m *Machine) (advert bool) {
		for _, act := range m.Handle(heard, now) {
			switch act.(type) {
			case Advertise:
				advert = true
				adverts++
			case Reannounce:
				announcements++
			}
		}
		return advert
	}
	const tenth = 100 * time.Microsecond // the way over the wire
	flying := false                      // an advert of a to b
	for range int(time.Second / tenth) {
		if !flying {
			flying = answers(a)
		}
		if flying {
			flying = answers(b) // and back
		}
		now = now.Add(tenth)
	}
	if adverts < 2 || adverts > 200 || announcements > 12 {
		t.Errorf("%d adverts and %d announcements within a second", adverts, announcements)
	}
}

func TestTerms(t *testing.T) {
	v2 := Terms{Version: Version2, Interval: time.Second}
	secret := Terms{Version: Version2, Interval: time.Second, Password: "apple"}
	v3 := Terms{Version: Version3, Interval: time.Second}
	heard := said(2, 51, 100, time.Second, ips("192.168.77.1"))
	for _, c := range []struct {
		name   string
		terms  Terms
		advert Advert
		want   DropReason
	}{
		{"version 3", v3, said(3, 51, 100, time.Second, ips("192.168.77.1")), ""},
		{"version 3 learns the interval", v3, said(3, 51, 100, 5*time.Second, ips("192.168.77.1")), ""},
		{"version 3 with other addresses", v3, said(3, 51, 100, time.Second, ips("10.0.0.1", "10.0.0.2")), ""},
		{"version 2 for version 3", v3, heard, DropVersion},
		{"version 2", v2, heard, ""},
		{"version 3 for version 2", v2, said(3, 51, 100, time.Second, ips("192.168.77.1")), DropVersion},
		{"version 2 with other addresses", v2, said(2, 51, 100, time.Second, ips("10.0.0.1")), ""},
		{"version 2 with another interval", v2, said(2, 51, 100, 2*time.Second, ips("192.168.77.1")), DropInterval},
		{"a password where none is set", v2, withPassword(heard, "apple"), DropAuthentication},
		{"the password", secret, withPassword(heard, "apple"), ""},
		{"another password", secret, withPassword(heard, "apples"), DropAuthentication},
		{"no password where one is set", secret, heard, DropAuthentication},
		{"anything", Terms{}, withPassword(heard, "apple"), ""},
	} {
		if got := c.terms.Refuse(c.advert); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
