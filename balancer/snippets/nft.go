package snippets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"harouter/balancer"
)

// Program is what the rules are read with.
const Program = "nft"

// errNoProgram: it cannot be started.
var errNoProgram = errors.New("the program nft cannot be started: install nftables")

// limit is how long nft may take; names of hosts in rules are asked for.
const limit = 10 * time.Second

// maxAnswer is how much of nft's answers is kept, bytes: the beginning.
const maxAnswer = 1 << 20

// head is a writer that keeps the beginning.
type head struct{ b []byte }

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), maxAnswer-len(h.b))]...)
	return len(p), nil
}

// refusal is what nft says of a script.
type refusal struct {
	file string // of which snippet; "" of none
	text string // with the line of the file
}

func (r *refusal) Error() string { return r.text }

// nft runs the program with a script. What it refuses is a refusal.
func (w *Worker) nft(ctx context.Context, script string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := w.ports.Command(ctx, Program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader(script)
	var out, said head
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	what := "nft " + strings.Join(args, " ")
	var ended *exec.ExitError
	if _, missing := exec.LookPath(Program); err != nil && missing != nil {
		return "", errNoProgram
	}
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return string(out.b), nil
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s: it took longer than %v", what, limit)
	case errors.As(err, &ended) && ended.ExitCode() == 1:
		return "", refused(script, string(said.b))
	}
	return "", fmt.Errorf("%s: %w: %s", what, err, bytes.TrimSpace(said.b))
}

// refused finds the first complaint of nft, and the file that it is about:
// "/dev/stdin:LINE:COL-COL: Error: TEXT", and the line below it.
func refused(script, said string) *refusal {
	r := &refusal{text: "nft says nothing of what is wrong"}
	if first, _, _ := strings.Cut(strings.TrimSpace(said), "\n"); first != "" {
		r.text = first
	}
	for line := range strings.Lines(said) {
		place, text, ok := strings.Cut(strings.TrimSpace(line), ": Error: ")
		if !ok {
			continue
		}
		r.text = text
		part := strings.Split(place, ":")
		if len(part) < 2 {
			return r
		}
		n, err := strconv.Atoi(part[1])
		if err != nil {
			return r
		}
		lines := strings.Split(script, "\n")
		for i := min(n, len(lines)) - 1; i >= 0; i-- {
			if name, ok := strings.CutPrefix(lines[i], balancer.SnippetRemark); ok {
				r.file = name
				r.text = fmt.Sprintf("line %d: %s: %s", n-i-2, text, strings.TrimSpace(lines[min(n, len(lines))-1]))
				break
			}
		}
		return r
	}
	return r
}

// objects are the kinds of what a table holds, as nft lists and deletes them, in
// the order in which they can go once the chains are empty.
var objects = []string{"map", "set", "chain", "counter", "quota", "limit", "secmark", "synproxy", "ct helper", "ct timeout", "ct expectation"}

// removal is the script that takes out what a listing of our table holds of the
// admin's; "" if there is nothing.
func removal(listing string) string {
	found := map[string][]string{}
	for line := range strings.Lines(listing) {
		line, ok := strings.CutPrefix(line, "\t")
		if !ok {
			continue
		}
		for _, kind := range objects {
			name, ok := strings.CutPrefix(line, kind+" ")
			if !ok {
				continue
			}
			name, _, _ = strings.Cut(name, " ")
			if strings.HasPrefix(name, balancer.UserPrefix) {
				found[kind] = append(found[kind], name)
			}
		}
	}
	var b strings.Builder
	say := func(what, kind string) {
		for _, name := range found[kind] {
			fmt.Fprintf(&b, "%s %s inet %s %s\n", what, kind, balancer.TableName, name)
		}
	}
	say("flush", "chain")
	for _, kind := range objects {
		say("delete", kind)
	}
	return b.String()
}
