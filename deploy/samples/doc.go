// Package samples holds configurations that this version accepts; a test of
// ha/config keeps that true. The manual shows Full.
package samples

import _ "embed"

// Full sets every key that this version builds, with its default in words.
//
//go:embed harouter.yaml
var Full string
