package main

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"
)

// Where SIGPIPE is ignored the error of the write takes its place.
func TestBrokenPipeWithoutSignalIsQuiet(t *testing.T) {
	var stderr bytes.Buffer
	code := run([]string{"version"}, stdio{strings.NewReader(""), brokenWriter{syscall.EPIPE}, &stderr})
	if code != 128+int(syscall.SIGPIPE) || stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q; want that of SIGPIPE and silence", code, &stderr)
	}
}

// A full disk behind stdout is no success.
func TestUnwritableStdoutFails(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "--json"}} {
		var stderr bytes.Buffer
		code := run(args, stdio{strings.NewReader(""), brokenWriter{syscall.ENOSPC}, &stderr})
		if code != exitFailure || !strings.HasPrefix(stderr.String(), "lm-sandbox: ") {
			t.Errorf("%v: exit code %d, stderr %q; want %d and a message", args, code, &stderr, exitFailure)
		}
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestAsFailure(t *testing.T) {
	plain := errors.New("plain")
	if f := asFailure(plain); f.code != exitFailure || !errors.Is(f.err, plain) {
		t.Errorf("a plain error is code %d", f.code)
	}
	wrapped := errors.Join(plain, usage(plain, "hint %d", 1))
	if f := asFailure(wrapped); f.code != exitUsage || f.hint != "hint 1" {
		t.Errorf("a joined usage error is code %d with hint %q", f.code, f.hint)
	}
}
