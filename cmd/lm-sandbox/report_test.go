package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// What a signal ended has the signal's exit code, and only an error of its own is told.
func TestReportInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupted{syscall.SIGTERM})
	var stderr bytes.Buffer
	if code := report(ctx, &stderr, usage(fmt.Errorf("loading: %w", context.Canceled), "hint")); code != 143 || stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q; want 143 and silence", code, &stderr)
	}
	if code := report(ctx, &stderr, errors.New("the pipe burst")); code != 143 || stderr.String() != "lm-sandbox: the pipe burst\n" {
		t.Errorf("exit code %d, stderr %q; want 143 and the error", code, &stderr)
	}
	if code := report(ctx, &stderr, nil); code != exitOK {
		t.Errorf("exit code %d for a command that came to its end", code)
	}
}

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
