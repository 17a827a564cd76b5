package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLines(t *testing.T) {
	var got []string
	l := &lines{each: func(s string) { got = append(got, s) }}
	for _, part := range []string{"one\ntw", "o\r", "\r\nthree", ""} {
		_, err := io.WriteString(l, part)
		require.NoError(t, err)
	}
	l.flush()
	assert.Equal(t, []string{"one", "two", "three"}, got)

	l = &lines{}
	for i := range 3 * keptLines {
		_, err := io.WriteString(l, strconv.Itoa(i)+"\n")
		require.NoError(t, err)
	}
	assert.Len(t, l.last, keptLines)
	assert.Equal(t, strconv.Itoa(3*keptLines-1), l.last[keptLines-1])
}

func TestChildFailureShowsItsLastLines(t *testing.T) {
	err := child{args: []string{"sh", "-c", "echo one; echo fatal: why >&2; echo three; exit 7"}}.run(t.Context())
	assert.ErrorContains(t, err, "sh: exit status 7\n  one\n  fatal: why\n  three")
	var failed *childError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, "why", failed.reason())
}

func TestReason(t *testing.T) {
	for want, lines := range map[string]string{
		"404 Not Found - GET http://x": "npm error code E404\nnpm error 404 Not Found - GET http://x\nnpm error A complete log",
		"old":                          "npm ERR! code X\nnpm ERR! old",
		"last":                         "first\nlast",
		"no":                           "hint: x\nfatal: no\nhint: y",
	} {
		assert.Equal(t, want, (&childError{last: strings.Split(lines, "\n")}).reason())
	}
	assert.NotEmpty(t, (&childError{}).reason())
}

// What a child started ends with it, also where the child itself is deaf.
func TestInterruptedChildLeavesNothing(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	script := `sleep 1000 & echo $! >` + pidFile + `.new; mv ` + pidFile + `.new ` + pidFile + `; wait`
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- child{args: []string{"sh", "-c", script}}.run(ctx) }()
	var pid int
	require.Eventually(t, func() bool {
		data, err := os.ReadFile(pidFile)
		if errors.Is(err, os.ErrNotExist) {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil
	}, patience, 10*time.Millisecond)
	cancel()
	assert.ErrorIs(t, <-done, context.Canceled)
	require.Eventually(t, func() bool { return !alive(pid) }, 5*grace, 10*time.Millisecond)
}

func TestProgressLines(t *testing.T) {
	for line, want := range map[string][2]int64{
		"[12/345] Building CXX object a.o": {12, 345},
		"[ 42%] Building CXX object a.o":   {42, 100},
		"[100%] Built target llama":        {100, 100},
	} {
		done, total, ok := buildStep(line)
		assert.True(t, ok, line)
		assert.Equal(t, want, [2]int64{done, total}, line)
	}
	for _, line := range []string{"", "[", "[x/y] z", "[1/] z", "[%] z", "ninja: no work to do.", "a [1/2]"} {
		_, _, ok := buildStep(line)
		assert.False(t, ok, line)
	}
	n, ok := gitPercent("Receiving objects:  42% (3/7), 1.00 MiB | 2 MiB/s")
	assert.True(t, ok)
	assert.EqualValues(t, 42, n)
	_, ok = gitPercent("Resolving deltas: 42% (3/7)")
	assert.False(t, ok)
}
