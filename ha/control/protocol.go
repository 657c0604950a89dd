package control

import (
	"encoding/json"
	"path/filepath"
	"time"
)

// Request is one command with its arguments, which may be missing.
type Request struct {
	Command string          `json:"command"`
	Args    json.RawMessage `json:"args,omitempty"`
}

// answer is one line of the daemon: exactly one of data, done and error.
type answer struct {
	Data  json.RawMessage `json:"data,omitempty"`
	Done  bool            `json:"done,omitempty"`
	Error string          `json:"error,omitempty"`
	Code  int             `json:"code,omitempty"`
}

// Error is how a command failed, in one sentence, with the exit code of the
// program: 1 failed, 2 wrong input. A handler may return one; any other error
// has code 1.
type Error struct {
	Text string
	Code int
}

func (e *Error) Error() string { return e.Text }

// Bounds of one connection.
const (
	maxRequest    = 64 << 10        // bytes of the request line
	requestWithin = 5 * time.Second // from connecting to the end of the request
	writeWithin   = 2 * time.Second // a line of the answer; a reader that is slower is dropped
	maxClients    = 64
)

func socketPath(runDir string) string { return filepath.Join(runDir, "harouter.sock") }
func lockPath(runDir string) string   { return filepath.Join(runDir, "harouter.lock") }

// maxSocketPath is what the kernel takes, without the zero at the end.
const maxSocketPath = 107
