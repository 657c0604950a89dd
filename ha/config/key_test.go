package config

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLoadKey(t *testing.T) {
	one := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("1", 32)))
	two := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("2", 32)))
	for name, test := range map[string]struct {
		content string
		mode    os.FileMode
		want    string // of the error; empty: fine
		older   int
	}{
		"one line":       {one + "\n", 0o600, "", 0},
		"no newline":     {one, 0o400, "", 0},
		"with older":     {one + "\n" + two + "\n", 0o600, "", 1},
		"Windows":        {one + "\r\n" + two + "\r\n", 0o600, "", 1},
		"group reads":    {one, 0o640, "others can read it (mode 0640); run `chmod 600 ", 0},
		"others read":    {one, 0o604, "others can read it (mode 0604); run `chmod 600 ", 0},
		"group writes":   {one, 0o620, "others can read it (mode 0620)", 0},
		"empty":          {"\n", 0o600, "it is empty; write one line with 32 random bytes in base64", 0},
		"no base64":      {"correct horse battery staple", 0o600, "line 1 is no base64; allowed: one line with 32 random bytes", 0},
		"short":          {"c2hvcnQ=", 0o600, "line 1 has 5 bytes, a key has 32", 0},
		"bad older":      {one + "\nxx", 0o600, "line 2 is no base64", 0},
		"three":          {one + "\n" + two + "\n" + two, 0o600, "it has 3 lines; allowed: the key, and in a second line an older key", 0},
		"all zero":       {strings.Repeat("A", 43) + "=", 0o600, "line 1 is all zero", 0},
		"a line between": {one + "\n\n" + two, 0o600, "it has 3 lines", 0},
	} {
		path := filepath.Join(t.TempDir(), "cluster.key")
		if err := os.WriteFile(path, []byte(test.content), test.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		k, err := LoadKey(path)
		switch {
		case test.want == "" && (err != nil || k.Primary[0] != '1' || len(k.Older) != test.older):
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), "read key file "+path+": "+test.want)):
			t.Errorf("%s: %v", name, err)
		case err != nil && strings.Contains(err.Error(), "horse"):
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
	if _, err := LoadKey("/nowhere/cluster.key"); err == nil || !strings.Contains(err.Error(), "there is none; harouter join --force fetches it") {
		t.Error(err)
	}
	if _, err := LoadKey(t.TempDir()); err == nil || !strings.Contains(err.Error(), "it is no file") {
		t.Error(err)
	}
}

func TestKeyRoundTrip(t *testing.T) {
	k := NewKey()
	k.Older = [][32]byte{NewKey().Primary}
	path := filepath.Join(t.TempDir(), "cluster.key")
	if err := os.WriteFile(path, k.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadKey(path)
	if err != nil || got.Primary != k.Primary || len(got.Older) != 1 || got.Older[0] != k.Older[0] {
		t.Errorf("not the same key: %v", err)
	}
	if k.Primary == NewKey().Primary || k.Primary == [32]byte{} {
		t.Error("keys are not random")
	}
}

const derivedInPython = "4a462fd337e9ecb520c9a427f1eba31429e36b776aea479ccb9f8f1720185975"

// The value comes from an independent HKDF (Python, hmac): a change here would
// part nodes of different versions.
func TestDerive(t *testing.T) {
	k := Key{Older: [][32]byte{{1}}}
	for i := range k.Primary {
		k.Primary[i] = byte(i)
	}
	got := k.Derive("gossip")
	if s := hex.EncodeToString(got[:]); s != derivedInPython {
		t.Errorf("gossip: %s", s)
	}
	if k.Derive("gossip") == k.Derive("sync") {
		t.Error("labels do not matter")
	}
	all := k.DeriveAll("gossip")
	if len(all) != 2 || all[0] != got || all[1] == got {
		t.Error("DeriveAll is not the primary's and the older one's")
	}
}

func TestKeyIsNotShown(t *testing.T) {
	k := Key{Primary: [32]byte([]byte(strings.Repeat("S", 32)))}
	asJSON, err := json.Marshal(map[string]any{"key": k})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", k)
	shown := fmt.Sprintf("%v %+v %#v %s %x", k, k, k, k, k) + string(asJSON) + log.String()
	for _, secret := range []string{"SSSS", "5353", "53, 0x53", "83 83", "83,83", "U1NT"} {
		if strings.Contains(shown, secret) {
			t.Errorf("%s in %s", secret, shown)
		}
	}
	if !strings.Contains(shown, hidden) {
		t.Error(shown)
	}
}

// TestKeyOfAnother: who may not read the key is told so.
func TestKeyOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	if err := os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // it ends with the goroutine, and its user with it
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			result <- err
			return
		}
		_, err := LoadKey(path)
		result <- err
	}()
	if err := <-result; err == nil || !strings.Contains(err.Error(), "this user may not read it; run harouter as root") {
		t.Errorf("a key of root, read by nobody: %v", err)
	}
}
