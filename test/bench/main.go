package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// bench is one experiment; it adds rows under its name.
type bench struct {
	name  string
	title string
	peer  string // head of the peer's column
	notes []string
	run   func(*lab) error
}

// lab is what a bench gets.
type lab struct {
	*Table
	name  string // of the bench
	runs  int
	begin time.Time
}

// row is a row of this bench.
func (l *lab) row(what, unit string) *Row { return l.Row(l.name, what, unit) }

// tell writes a line of progress.
func (l *lab) tell(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%4.0f s  %-11s %s\n", time.Since(l.begin).Seconds(), l.name, fmt.Sprintf(format, args...))
}

var benches = []bench{faultsAt("takeover", 100*time.Millisecond), faultsAt("slow", time.Second), faultsAt("quick", 10*time.Millisecond), busyBench, uplinkBench, deletionBench, weightsBench, sharesBench, theirsBench, idleBench, rateBench, policiesBench, replicationBench}

func main() {
	netlab.Role("apply", applyRole)
	netlab.Role("deletion", deletionRole)
	netlab.Role("sink", sinkRole)
	netlab.Role("hammer", hammerRole)
	netlab.Role("stamps", stampsRole)
	netlab.Main()

	runs := flag.Int("runs", 5, "how often each is measured")
	only := flag.String("only", "", "benches whose name matches this regular expression")
	file := flag.String("json", "", "write all values to this `file` as well")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: bench [-runs N] [-only REGEX] [-json FILE]")
		flag.PrintDefaults()
		for _, b := range benches {
			fmt.Fprintf(flag.CommandLine.Output(), "%10s  %s\n", b.name, b.title)
		}
	}
	flag.Parse()
	if err := run(*runs, *only, *file); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(runs int, only, file string) error {
	chosen, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if runs < 1 {
		return fmt.Errorf("-runs is %d; at least 1", runs)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("this needs root, for network namespaces: run it with sudo")
	}
	binary, err := site.Binary()
	if err != nil {
		return err
	}
	l := &lab{Table: &Table{}, runs: runs, begin: time.Now()}
	about := versions(binary)
	for _, v := range about {
		fmt.Printf("%-12s %s\n", v.Name, v.Text)
	}
	failed, done := 0, 0
	for _, b := range benches {
		if !chosen.MatchString(b.name) {
			continue
		}
		done++
		l.name = b.name
		l.tell("%s", b.title)
		if err := b.run(l); err != nil {
			failed++
			l.tell("gave up: %v", err)
			b.notes = append([]string{fmt.Sprintf("NOT COMPLETE: %.300s", err)}, b.notes...)
		}
		l.Print(os.Stdout, b)
	}
	if done == 0 {
		return fmt.Errorf("-only %s: no bench is named so", only)
	}
	took := time.Since(l.begin).Round(time.Second)
	fmt.Printf("\ntook %s. lag, stall: by how many ms the client's sending thread was late at worst, and for how long a processor stood still.\n", took)
	if file != "" {
		if err := save(file, about, took, l.Table); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d benches were not completed", failed)
	}
	return nil
}

func save(file string, about []version, took time.Duration, t *Table) error {
	for _, r := range t.Rows {
		r.Missed = r.judge()
	}
	text, err := json.MarshalIndent(struct {
		Versions []version `json:"versions"`
		Seconds  float64   `json:"seconds"`
		Rows     []*Row    `json:"rows"`
	}{about, took.Seconds(), t.Rows}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	return nil
}
