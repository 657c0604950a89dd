package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// keptName is where the guard keeps what it was told last, for the case that it
// dies together with the daemon: in the run directory, for root's eyes only.
const keptName = "guard.state"

// kept is the form of the file.
type kept struct {
	Boot  string `json:"boot"` // of an earlier one it says nothing
	State State  `json:"state"`
}

// bootID names this run of the kernel, "" if it does not tell.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// keep writes the file, whole or not at all.
func keep(runDir string, s State) error {
	b, err := json.Marshal(kept{bootID(), s})
	if err != nil {
		return fmt.Errorf("keep the guard's orders: %w", err)
	}
	path := filepath.Join(runDir, keptName)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("keep the guard's orders: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("keep the guard's orders: %w", err)
	}
	return nil
}

// keeper writes the file from a goroutine of its own: a disk may hang.
type keeper struct {
	dir   string
	next  chan State // the newest is enough
	mu    sync.Mutex // held while the file is written or removed
	ended bool
}

func startKeeper(dir string, j *journal) *keeper {
	k := &keeper{dir: dir, next: make(chan State, 1)}
	go func() {
		for s := range k.next {
			k.mu.Lock()
			if !k.ended {
				if err := keep(dir, s); err != nil {
					j.warn("a fence after the end of both processes will not be possible", "err", err)
				}
			}
			k.mu.Unlock()
		}
	}()
	return k
}

// put is called by one goroutine and does not block.
func (k *keeper) put(s State) {
	select {
	case <-k.next:
	default:
	}
	k.next <- s
}

// forget removes the file for good: what it says is done, or the next guard's
// business. One that hangs on its disk is not waited for.
func (k *keeper) forget() {
	for tries := 0; !k.mu.TryLock(); tries++ {
		if tries == 10 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	defer k.mu.Unlock()
	if !k.ended {
		k.ended = true
		os.Remove(filepath.Join(k.dir, keptName))
	}
}

// remembered reads the file; nil if there is none, or one from before this
// machine started.
func remembered(runDir string) (*State, error) {
	b, err := os.ReadFile(filepath.Join(runDir, keptName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the guard's last orders: %w", err)
	}
	return decodeKept(b, bootID())
}

func decodeKept(b []byte, boot string) (*State, error) {
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, fmt.Errorf("read the guard's last orders: %w", err)
	}
	if k.Boot != boot {
		return nil, nil
	}
	return &k.State, nil
}
