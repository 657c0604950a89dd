package config

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// Key is the secret of a cluster. It never shows itself in a log.
type Key struct {
	Primary [32]byte
	Older   [][32]byte // still accepted from others, never used for sending
}

// newKeyHint tells how a key file comes into being.
const newKeyHint = "one line with 32 random bytes in base64, as `head -c 32 /dev/urandom | base64` prints it, the same on every node"

// NewKey is a fresh random key.
func NewKey() Key {
	var k Key
	rand.Read(k.Primary[:]) // never fails (crypto/rand)
	return k
}

// LoadKey reads a key file: one line with the key, a second line with an older
// one that is still accepted. A file that others can read is refused.
func LoadKey(path string) (Key, error) {
	// Look before opening: opening a pipe would wait.
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Key{}, fmt.Errorf("read key file %s: there is none; harouter join --force fetches it with the file from a router that runs; or copy it from there, mode 0600; or make one: %s", path, newKeyHint)
	case err != nil:
		return Key{}, unreadable(path, err)
	case !info.Mode().IsRegular():
		return Key{}, fmt.Errorf("read key file %s: it is no file; write %s", path, newKeyHint)
	case info.Mode().Perm()&0o077 != 0:
		return Key{}, fmt.Errorf("read key file %s: others can read it (mode %04o); run `chmod 600 %s`, and make a new key if someone may have seen it",
			path, info.Mode().Perm(), path)
	}
	f, err := os.Open(path)
	if err != nil {
		return Key{}, unreadable(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return Key{}, fmt.Errorf("read key file: %w", err)
	}
	k, err := ParseKey(data)
	if err != nil {
		return Key{}, fmt.Errorf("read key file %s: %w", path, err)
	}
	return k, nil
}

// unreadable is why a key file that is there cannot be read.
func unreadable(path string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("read key file %s: this user may not read it; run harouter as root, or let file and directory belong to the user that it runs as", path)
	}
	return fmt.Errorf("read key file: %w", err)
}

// ParseKey reads the bytes of a key file. It must never put a byte of them into
// an error.
func ParseKey(data []byte) (Key, error) {
	data = bytes.TrimRight(data, "\r\n \t")
	if len(data) == 0 {
		return Key{}, fmt.Errorf("it is empty; write %s", newKeyHint)
	}
	lines := bytes.Split(data, []byte("\n"))
	if len(lines) > 2 {
		return Key{}, fmt.Errorf("it has %d lines; allowed: the key, and in a second line an older key", len(lines))
	}
	var keys [][32]byte
	for i, line := range lines {
		raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(line)))
		switch {
		case err != nil:
			return Key{}, fmt.Errorf("line %d is no base64; allowed: %s", i+1, newKeyHint)
		case len(raw) != 32:
			return Key{}, fmt.Errorf("line %d has %d bytes, a key has 32; allowed: %s", i+1, len(raw), newKeyHint)
		case [32]byte(raw) == [32]byte{}:
			return Key{}, fmt.Errorf("line %d is all zero, which is no secret; allowed: %s", i+1, newKeyHint)
		}
		keys = append(keys, [32]byte(raw))
	}
	return Key{Primary: keys[0], Older: keys[1:]}, nil
}

// Encode is the content of a key file (to be written with mode 0600).
func (k Key) Encode() []byte {
	var b []byte
	for _, one := range append([][32]byte{k.Primary}, k.Older...) {
		b = base64.StdEncoding.AppendEncode(b, one[:])
		b = append(b, '\n')
	}
	return b
}

// Derive is the sub-key for one purpose (HKDF-SHA256, RFC 5869).
func (k Key) Derive(label string) [32]byte { return derive(k.Primary, label) }

// DeriveAll is the sub-key of the primary key and of each older one.
func (k Key) DeriveAll(label string) [][32]byte {
	all := [][32]byte{k.Derive(label)}
	for _, o := range k.Older {
		all = append(all, derive(o, label))
	}
	return all
}

func derive(secret [32]byte, label string) [32]byte {
	sub, err := hkdf.Key(sha256.New, secret[:], nil, "harouter "+label, 32)
	if err != nil {
		panic(err) // only for more than 255 hashes of output
	}
	return [32]byte(sub)
}

const hidden = "(a key, not shown)"

func (Key) String() string               { return hidden }
func (Key) GoString() string             { return hidden }
func (Key) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (Key) MarshalText() ([]byte, error) { return []byte(hidden), nil }
