package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// commentedKey is a line that says what could stand there.
var commentedKey = regexp.MustCompile(`^( *)# ( *)((- )?[a-z_]+:( .*)?)$`)

// placeholder is a word that a person has to replace.
var placeholder = regexp.MustCompile(`\b(ADDRESS|LENGTH)\b`)

// pieces are what a text becomes when one of its commented keys, with what stands
// deeper behind it, is no comment any more; and when all of its paragraph are none.
func pieces(text string) (out [][2]string) {
	lines := strings.Split(text, "\n")
	for i := range lines {
		first := commentedKey.FindStringSubmatch(lines[i])
		if first == nil || first[2] != "" || placeholder.MatchString(lines[i]) {
			continue
		}
		bare := func(from int, also func(m []string) bool, step int, changed []string) {
			for j := from; j >= 0 && j < len(lines); j += step {
				m := commentedKey.FindStringSubmatch(lines[j])
				if m == nil || m[1] != first[1] || !also(m) {
					return
				}
				changed[j] = m[1] + m[2] + m[3]
			}
		}
		alone, all := slices.Clone(lines), slices.Clone(lines)
		alone[i], all[i] = first[1]+first[3], first[1]+first[3]
		bare(i+1, func(m []string) bool { return m[2] != "" }, 1, alone)
		bare(i+1, func([]string) bool { return true }, 1, all)
		bare(i-1, func([]string) bool { return true }, -1, all)
		out = append(out, [2]string{strings.Join(alone, "\n"), strings.Join(all, "\n")})
	}
	return out
}

// TestCommentedKeys: what the samples and the starter file propose in comments
// can be taken as it stands, alone or with what is proposed beside it.
func TestCommentedKeys(t *testing.T) {
	total := 0
	paths, err := filepath.Glob("../../deploy/samples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(paths, "testdata/starter.golden") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, piece := range pieces(string(text)) {
			total++
			_, problems := Parse(path, []byte(piece[0]))
			if problems.Err() != nil { // user and password need each other
				if _, together := Parse(path, []byte(piece[1])); together.Err() != nil {
					t.Errorf("%s, without a comment sign: %v", path, problems)
				}
			}
		}
	}
	if total < 10 {
		t.Errorf("only %d commented keys were found", total)
	}
}
