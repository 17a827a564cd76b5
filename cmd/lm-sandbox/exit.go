package main

import (
	"errors"
	"fmt"
)

// The exit codes, as the help of the root command lists them. 'bash' passes the
// code of its command through; 125 is the code that env, timeout and docker use
// when they could not start theirs, so a script can tell the two apart.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitModel   = 3
	exitService = 4
	exitGPU     = 5
	exitSandbox = 125
	exitSignal  = 128 // + number of the signal: 130 is Ctrl-C
)

const exitHelp = `Exit codes:
  0    done
  1    failed for another reason than those below
  2    the command line, a schema or a grammar is wrong
  3    the model is missing, broken or too big
  4    the HTTP service cannot be started
  5    no GPU can be used, where one is wanted
  125  the sandbox could not run the command
  128+n  ended by signal n (130: Ctrl-C)
'lm-sandbox bash' passes the exit code of its command through.`

// failure is an error, the exit code that stands for it, and what the user can
// do about it. A nil err is silent: the code says it all.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit status %d", f.code)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// asFailure finds the failure in err's chain; an error without one is general.
func asFailure(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return &failure{code: exitFailure, err: err}
}

// usage marks err as a mistake in the command line.
func usage(err error, hint string, args ...any) error {
	return &failure{code: exitUsage, err: err, hint: fmt.Sprintf(hint, args...)}
}
