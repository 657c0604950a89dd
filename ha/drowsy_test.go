package ha

import (
	"strings"
	"testing"
	"time"
)

// TestDrowsy: words that make a node master at once, read by one that has just
// stood still.
func TestDrowsy(t *testing.T) {
	for _, c := range []struct {
		name  string
		word  func(s *sim) Message
		slept time.Duration
		later time.Duration // after waking
		want  Role
	}{
		{"a hand-over after a short sleep", handoverWord, 500 * time.Millisecond, 0, RoleMaster},
		{"one that may have been given up", handoverWord, 2 * time.Second, 0, RoleBackup},
		{"the same a moment later", handoverWord, 2 * time.Second, drowsyFor, RoleMaster},
		{"the word of a guard", fencedWord, 500 * time.Millisecond, 0, RoleBackup},
		{"the same a moment later", fencedWord, 500 * time.Millisecond, drowsyFor, RoleMaster},
		{"a step back", yieldWord, 500 * time.Millisecond, 0, RoleBackup},
		{"the same a moment later", yieldWord, 500 * time.Millisecond, drowsyFor, RoleMaster},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := booted(t, "r1", "r2")
			word := c.word(s)
			r2 := s.nodes["r2"]
			r2.handle(Overslept{For: c.slept})
			s.run(c.later)
			r2.handle(Told{From: "r1", Message: word})
			if got := r2.m.Role(); got != c.want {
				t.Errorf("r2 is %v, want %v\n%s", got, c.want, strings.Join(s.log, "\n"))
			}
		})
	}
}

func handoverWord(*sim) Message { return Message{Kind: KindHandover, ID: 77} }
func yieldWord(*sim) Message    { return Message{Kind: KindYield} }
func fencedWord(s *sim) Message {
	return Message{Kind: KindFenced, Will: s.nodes["r1"].m.will()}
}
