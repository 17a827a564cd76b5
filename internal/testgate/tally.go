package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// event is one line of `go test -json` (cmd/test2json, cmd/go buildjson).
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

// tally counts results and keeps the output of each running test until it is
// known whether anybody needs to see it.
type tally struct {
	allowed                 []skip
	w                       io.Writer
	output                  map[string][]string // by package and test
	passed, failed, skipped int
	unlisted                []string
}

func newTally(allowed []skip, w io.Writer) *tally {
	return &tally{allowed: allowed, w: w, output: map[string][]string{}}
}

// read consumes the stream to its end. A line that is no JSON is shown as it
// is: go itself prints such lines when it fails early.
func (t *tally) read(r io.Reader) error {
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(t.w, "%s", line)
			} else {
				t.add(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tally) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(t.w, e.Output)
	case "output":
		t.output[key] = append(t.output[key], e.Output)
	case "pass":
		t.end(e, key, false)
	case "fail":
		t.end(e, key, true)
	case "skip":
		t.skip(e, key)
	}
}

// end closes a test, or a package when e names no test. A failure shows what
// was printed; of a package that passed, its last line is enough.
func (t *tally) end(e event, key string, failed bool) {
	lines := t.output[key]
	delete(t.output, key)
	switch {
	case e.Test == "" && failed:
		fmt.Fprint(t.w, strings.Join(lines, ""))
	case e.Test == "":
		if len(lines) > 0 {
			fmt.Fprint(t.w, lines[len(lines)-1])
		}
	case failed:
		t.failed++
		fmt.Fprint(t.w, strings.Join(lines, ""))
	default:
		t.passed++
	}
}

func (t *tally) skip(e event, key string) {
	lines := t.output[key]
	delete(t.output, key)
	if e.Test == "" { // a package without tests
		return
	}
	t.skipped++
	for _, s := range t.allowed {
		if s.matches(e.Package, e.Test) {
			fmt.Fprintf(t.w, "skip\t%s %s: %s\n", e.Package, e.Test, s.reason)
			return
		}
	}
	t.unlisted = append(t.unlisted, e.Package+" "+e.Test)
	fmt.Fprint(t.w, strings.Join(lines, ""))
}

// verdict prints the closing line and turns the counts and go test's own end
// into an error, or nil.
func (t *tally) verdict(waitErr error) error {
	fmt.Fprintf(t.w, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	var errs []error
	if waitErr != nil {
		errs = append(errs, fmt.Errorf("go test: %w", waitErr))
	} else if t.failed > 0 {
		errs = append(errs, fmt.Errorf("%d tests failed", t.failed))
	}
	if len(t.unlisted) > 0 {
		errs = append(errs, fmt.Errorf("skipped without a line in the list of skips:\n\t%s", strings.Join(t.unlisted, "\n\t")))
	}
	if t.passed == 0 {
		errs = append(errs, errors.New("no test passed: a run that tests nothing is a failure"))
	}
	return errors.Join(errs...)
}
