// Command harouter makes two Linux routers behave as one; see README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"harouter/ha/control"
)

// wrongInput marks errors that are the caller's: exit code 2.
type wrongInput struct{ error }

func (e wrongInput) Unwrap() error { return e.error }

// silent ends with a code where all has been said already.
type silent struct{ code int }

func (s silent) Error() string { return fmt.Sprintf("exit code %d", s.code) }

func main() { os.Exit(execute(context.Background(), os.Args[1:])) }

// execute runs one command line and returns its exit code: 0 done, 1 failed,
// 2 wrong input.
func execute(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var quiet silent
	var wrong wrongInput
	switch {
	case err == nil:
		return 0
	case errors.As(err, &quiet):
		return quiet.code
	case errors.As(err, &wrong):
		fmt.Fprintln(os.Stderr, "harouter:", err)
		return 2
	}
	fmt.Fprintln(os.Stderr, "harouter:", err)
	if refusal, ok := errors.AsType[*control.Error](err); ok { // the daemon's word
		return refusal.Code
	}
	return 1
}
