package ha

import (
	"strings"
	"testing"
	"time"
)

// TestMaintenanceIsRemembered: what cannot be kept over a restart is not in force
// either, and what is not in force is not kept.
func TestMaintenanceIsRemembered(t *testing.T) {
	for _, c := range []struct {
		name   string
		node   string
		before func(s *sim)
		verb   Verb
		answer string // part of it; "" done
		rests  bool   // in force, and remembered
		master string
	}{
		{"on", "r1", func(*sim) {}, VerbRest, "", true, "r2"},
		{"on, of a backup", "r2", func(*sim) {}, VerbRest, "", true, "r1"},
		{"on, a full disk", "r1", func(s *sim) { s.nodes["r1"].noRoom = true }, VerbRest, "no space left", false, "r1"},
		{"on, a full disk, of a backup", "r2", func(s *sim) { s.nodes["r2"].noRoom = true }, VerbRest, "no space left", false, "r1"},
		{"on, nobody takes over", "r1", func(s *sim) { s.mute = KindHandover }, VerbRest, "did not confirm", false, "r1"},
		{"on, alone", "r1", func(s *sim) { s.power("r2"); s.run(3 * time.Second) }, VerbRest, "", true, "r1"},
		{"off", "r1", func(s *sim) { s.command("r1", VerbRest, ""); s.run(3 * time.Second) }, VerbServe, "", false, "r1"},
		{"off, a disk that takes nothing", "r1", func(s *sim) {
			s.command("r1", VerbRest, "")
			s.run(3 * time.Second)
			s.nodes["r1"].noRoom = true
		}, VerbServe, "no space left", true, "r2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := booted(t, "r1", "r2")
			c.before(s)
			answer := s.command(c.node, c.verb, "")
			s.run(8 * time.Second)
			if text, ok := answer(); !ok || (text == "") != (c.answer == "") || !strings.Contains(text, c.answer) {
				t.Errorf("answered %v %q, want %q", ok, text, c.answer)
			}
			if n := s.nodes[c.node]; n.m.maintenance != c.rests || n.rests != c.rests {
				t.Errorf("in force %v, remembered %v, want %v\n%s", n.m.maintenance, n.rests, c.rests, strings.Join(s.log, "\n"))
			}
			s.master(c.master)
		})
	}
}

// TestMaintenanceTwice: a second wish while the first is being written down.
func TestMaintenanceTwice(t *testing.T) {
	s := booted(t, "r1", "r2")
	first, second := s.command("r2", VerbRest, ""), s.command("r2", VerbServe, "")
	s.run(time.Second)
	if text, ok := first(); !ok || text != "" {
		t.Errorf("the first: %v %q", ok, text)
	}
	if text, ok := second(); !ok || !strings.Contains(text, "under way") {
		t.Errorf("the second: %v %q", ok, text)
	}
	if n := s.nodes["r2"]; !n.m.maintenance || !n.rests {
		t.Errorf("in force %v, remembered %v", n.m.maintenance, n.rests)
	}
}

// TestMaintenanceTakenBack: off while the master still hands over before its rest
// ends that rest; the hand-over goes on.
func TestMaintenanceTakenBack(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.mute = KindTaken // so that it takes a moment
	on := s.command("r1", VerbRest, "")
	s.run(3 * time.Millisecond)
	if s.nodes["r1"].m.handoff == nil {
		t.Fatal("no hand-over is under way")
	}
	off := s.command("r1", VerbServe, "")
	s.run(simWork + time.Millisecond)
	again := s.command("r1", VerbServe, "")
	s.run(time.Second)
	if text, ok := on(); !ok || !strings.Contains(text, "off was asked for meanwhile") {
		t.Errorf("on: answered %v %q", ok, text)
	}
	for _, answer := range []func() (string, bool){off, again} {
		if text, ok := answer(); !ok || text != "" {
			t.Errorf("off: answered %v %q", ok, text)
		}
	}
	if n := s.nodes["r1"]; n.m.maintenance || n.rests {
		t.Errorf("in force %v, remembered %v\n%s", n.m.maintenance, n.rests, strings.Join(s.log, "\n"))
	}
}
