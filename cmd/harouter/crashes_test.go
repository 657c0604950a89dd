package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRecentStarts(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []int64
	}{
		{"none", "", nil},
		{"of the last ten minutes", "400\n401\n999\n1000\n", []int64{401, 999, 1000}},
		{"to come", "1001\n999\n", []int64{999}},
		{"no times", "x\n\n-\n99999999999999999999\n 998\n", []int64{998}},
	} {
		if d := cmp.Diff(c.want, recent(c.text, 1000)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestStarts(t *testing.T) {
	s := starts{t.TempDir()}
	for want := range 4 {
		if got, err := s.began(); got != want || err != nil {
			t.Errorf("%d, %v, want %d", got, err, want)
		}
	}
	if err := s.ended(); err != nil {
		t.Error(err)
	}
	if err := s.ended(); err != nil { // twice is as good as once
		t.Error(err)
	}
	if got, err := s.began(); got != 0 || err != nil {
		t.Errorf("after an orderly end: %d, %v", got, err)
	}
	if err := os.Remove(filepath.Join(s.dir, startsName)); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, startsName), 0o700); err != nil {
		t.Error(err)
	}
	if _, err := s.began(); err == nil {
		t.Error("no error where nothing can be noted")
	}
}
