package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
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

// writeGeneration remembers the file that the cluster agreed on last.
func writeGeneration(stateDir string, gen uint64, file []byte) error {
	var set fileSet
	defer set.discard()
	if err := placeGeneration(&set, stateDir); err != nil {
		return err
	}
	if err := fillGeneration(&set, stateDir, gen, file); err != nil {
		return err
	}
	return set.commit()
}

// placeGeneration and fillGeneration are its steps, for who writes more.
func placeGeneration(set *fileSet, stateDir string) error {
	if err := set.place(acceptedFile(stateDir), 0o644); err != nil {
		return err
	}
	return set.place(acceptedMark(stateDir), 0o644)
}

func fillGeneration(set *fileSet, stateDir string, gen uint64, file []byte) error {
	sum := sha256.Sum256(file)
	mark, err := json.Marshal(generation{Generation: gen, Hash: hex.EncodeToString(sum[:])})
	if err != nil {
		return err
	}
	if err := set.fill(acceptedFile(stateDir), file); err != nil {
		return err
	}
	return set.fill(acceptedMark(stateDir), append(mark, '\n'))
}
