package main

import (
	"harouter/ha/config"
)

// loadKey reads the cluster key; a bad one is the caller's mistake.
func loadKey(path string) (config.Key, error) {
	key, err := config.LoadKey(path)
	if err != nil {
		return key, wrongInput{err}
	}
	return key, nil
}
