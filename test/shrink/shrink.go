package shrink

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Lines returns the shortest script that it finds for which fails is true. fails
// has to be true of lines itself, and false of what is no script at all.
func Lines(lines []string, fails func([]string) bool) []string {
	for {
		before := strings.Join(lines, "\n")
		lines = fewer(lines, fails)
		lines = simpler(lines, fails)
		if strings.Join(lines, "\n") == before {
			return lines
		}
	}
}

// fewer leaves out as many lines at once as it can, first halves, last single
// ones and pairs: a cut and what mends it.
func fewer(lines []string, fails func([]string) bool) []string {
	for size := max(len(lines)/2, 1); size > 0; size /= 2 {
		for at := 0; at < len(lines); {
			if less := slices.Delete(slices.Clone(lines), at, min(at+size, len(lines))); fails(less) {
				lines = less
			} else {
				at += size
			}
		}
	}
	for i := 0; i < len(lines); i++ {
		for j := i + 1; j < len(lines); j++ {
			if less := slices.Delete(slices.Delete(slices.Clone(lines), j, j+1), i, i+1); fails(less) {
				lines = less
				j = i
			}
		}
	}
	return lines
}

// simpler rounds the times, lowers the counts and leaves out what stands last in
// a line.
func simpler(lines []string, fails func([]string) bool) []string {
	for i := range lines {
		for _, line := range plainer(lines[i]) {
			if line == lines[i] {
				continue
			}
			try := slices.Clone(lines)
			try[i] = line
			if fails(try) {
				lines = try
			}
		}
	}
	return lines
}

// plainer are the forms of a line that are worth a try, the plainest last.
func plainer(line string) (out []string) {
	words := strings.Fields(line)
	with := func(at int, word string) {
		try := slices.Clone(words)
		try[at] = word
		out = append(out, strings.Join(try, " "))
	}
	for at, word := range words {
		if d, err := time.ParseDuration(word); err == nil {
			for _, to := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second} {
				if d%to != 0 {
					with(at, d.Round(to).String())
				}
			}
		} else if n, err := strconv.Atoi(word); err == nil && n > 1 && at > 2 {
			with(at, strconv.Itoa(n/2))
			with(at, strconv.Itoa(n-1))
		}
	}
	if len(words) > 1 {
		out = append(out, strings.Join(words[:len(words)-1], " "))
	}
	return out
}
