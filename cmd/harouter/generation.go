package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"harouter/ha/join"
)

// generation is what the state directory tells of the file beside it.
type generation struct {
	Generation uint64 `json:"generation"`
	Hash       string `json:"hash"` // SHA-256 of the file, in hex
}

func acceptedFile(stateDir string) string {
	return filepath.Join(stateDir, "accepted", "harouter.yaml")
}
func acceptedMark(stateDir string) string { return filepath.Join(stateDir, "accepted", "generation") }

// accepted are the documents that remember the file which the cluster agreed on
// last.
func accepted(stateDir string, gen uint64, file []byte) []document {
	mark, err := json.Marshal(generation{Generation: gen, Hash: join.Hash(file)})
	if err != nil { // a number and a word: cannot happen
		panic(err)
	}
	return []document{
		{acceptedFile(stateDir), file, 0o644},
		{acceptedMark(stateDir), append(mark, '\n'), 0o644},
	}
}

// writeGeneration remembers the file that the cluster agreed on last.
func writeGeneration(stateDir string, gen uint64, file []byte) error {
	return place(accepted(stateDir, gen, file)...)
}

// trialMark holds the hash of a file that runs on trial. Should the daemon end
// before somebody keeps it, it does not come back.
func trialMark(stateDir string) string { return filepath.Join(stateDir, "accepted", "trial") }

func readTrial(stateDir string) string {
	hash, err := os.ReadFile(trialMark(stateDir))
	if err != nil { // none, most likely
		return ""
	}
	return strings.TrimSpace(string(hash))
}

// forgottenMark names the generation with which this node was taken out of the
// file, on all nodes but itself. It does not come back with that one: to the
// others it would be a stranger that claims their addresses.
func forgottenMark(stateDir string) string { return filepath.Join(stateDir, "accepted", "forgotten") }

// writeForgotten remembers that this node is in no other node's file any more.
func writeForgotten(stateDir string) error {
	mark, err := os.ReadFile(acceptedMark(stateDir))
	if err != nil {
		return err
	}
	return place(document{forgottenMark(stateDir), mark, 0o644})
}

// isForgotten tells whether a file is still the one with which this node was
// forgotten. A join, or a file of another making, ends that.
func isForgotten(stateDir string, file []byte) bool {
	mark, err := os.ReadFile(forgottenMark(stateDir))
	if err != nil { // none, most likely
		return false
	}
	now, err := os.ReadFile(acceptedMark(stateDir))
	var g generation
	return err == nil && bytes.Equal(mark, now) && json.Unmarshal(mark, &g) == nil && g.Hash == join.Hash(file)
}

// keepTried keeps a file that nobody confirmed in its trial, since it may be the
// only copy of somebody's work.
func keepTried(c *common, text []byte) error {
	return place(written(filepath.Join(c.stateDir, "tried", filepath.Base(c.config)), text)...)
}

// endTrial puts the file that runs in the place of one that was on trial when the
// daemon ended, as the end of the trial would have done.
func endTrial(c *common, running []byte) error {
	hash := readTrial(c.stateDir)
	if hash == "" || hash == join.Hash(running) {
		return nil
	}
	if disk, err := readText(c.config); err == nil && join.Hash(disk) == hash {
		if err := keepTried(c, disk); err != nil && !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		if err := place(written(c.config, running)...); err != nil {
			return err
		}
	}
	return ignoreMissing(os.Remove(trialMark(c.stateDir)))
}

// readGeneration returns the file that the cluster agreed on last; nil if this
// node knows of none.
func readGeneration(stateDir string) (gen uint64, file []byte, err error) {
	mark, err := os.ReadFile(acceptedMark(stateDir))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	var g generation
	if err := json.Unmarshal(mark, &g); err != nil {
		return 0, nil, fmt.Errorf("read %s: %w", acceptedMark(stateDir), err)
	}
	file, err = os.ReadFile(acceptedFile(stateDir))
	if err != nil {
		return 0, nil, err
	}
	if join.Hash(file) != g.Hash {
		return 0, nil, fmt.Errorf("%s is not the file that was accepted: its hash is another", acceptedFile(stateDir))
	}
	return g.Generation, file, nil
}
