package main

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"harouter/ha"
)

// TestDiskAlarm: it stands while anybody has a reason, and is told once.
func TestDiskAlarm(t *testing.T) {
	var told []ha.Event
	d := disk{dir: "/state", post: func(ev ha.Event) { told = append(told, ev) }}
	full, half := errors.New("no space left"), errors.New("3 kB are free")
	d.tell("room", nil)
	d.tell("room", half)
	d.tell("room", half)
	d.tell("events", full)
	d.tell("room", nil)
	d.tell("events", nil)
	d.tell("events", nil)
	const text = "nothing can be kept there over a restart: "
	alarm := func(on bool, why string) ha.Event {
		return ha.Condition{Code: ha.AlarmDiskFull, Subject: "/state", On: on, Text: why}
	}
	want := []ha.Event{alarm(true, text+"3 kB are free"), alarm(true, text+"3 kB are free"), alarm(true, text+"no space left"), alarm(false, "")}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestRoom(t *testing.T) {
	dir := t.TempDir()
	if err := room(dir); err != nil {
		t.Errorf("a usual directory: %v", err)
	}
	if err := room(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there has room")
	}
}
