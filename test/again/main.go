package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: again GO-TEST-ARGUMENTS...")
		os.Exit(2)
	}
	var first outcome
	err := run(&first, os.Args[1:]...)
	if err == nil {
		return
	}
	failed, ok := first.again()
	if !ok {
		fmt.Fprintln(os.Stderr, "again: red:", err)
		os.Exit(1)
	}
	for _, f := range failed {
		fmt.Printf("again: %v failed, once more alone\n", f)
		if err := run(&outcome{}, "-count", "1", "-timeout", "2m", "-run", "^"+f.Test+"$", f.Package); err != nil {
			fmt.Fprintf(os.Stderr, "again: red: %v failed twice\n", f)
			os.Exit(1)
		}
	}
	for _, f := range failed {
		fmt.Printf("again: %v passed the second time only: look at it if it does so often\n", f)
	}
}

// run is one go test, whose output is shown and read.
func run(o *outcome, args ...string) error {
	cmd := exec.Command("go", append([]string{"test"}, args...)...)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewReader(r)
		for {
			s, err := lines.ReadString('\n')
			fmt.Print(s)
			o.line(s)
			if err != nil {
				return
			}
		}
	}()
	err := cmd.Run()
	w.Close()
	<-read
	return err
}
