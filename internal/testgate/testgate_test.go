package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadSkips(t *testing.T) {
	write := func(t *testing.T, text string) string {
		name := filepath.Join(t.TempDir(), "skips.txt")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	got, err := readSkips(write(t, "# comment\n\nsandbox TestX/* needs cgroup v2\n"))
	require.NoError(t, err)
	require.Equal(t, []skip{{"sandbox", "TestX/*", "needs cgroup v2"}}, got)

	_, err = readSkips(write(t, "sandbox TestX\n"))
	require.ErrorContains(t, err, "skips.txt:1: want PACKAGE TEST REASON")
	_, err = readSkips(write(t, "sandbox Test[ reason\n"))
	require.ErrorContains(t, err, "pattern")
	_, err = readSkips(filepath.Join(t.TempDir(), "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestVerdict(t *testing.T) {
	const (
		pass = `{"Action":"pass","Package":"m/a","Test":"TestA"}` + "\n"
		fail = `{"Action":"output","Package":"m/a","Test":"TestB","Output":"why\n"}` + "\n" +
			`{"Action":"fail","Package":"m/a","Test":"TestB"}` + "\n"
		skipped = `{"Action":"output","Package":"m/a","Test":"TestC","Output":"no GPU\n"}` + "\n" +
			`{"Action":"skip","Package":"m/a","Test":"TestC"}` + "\n"
		empty = `{"Action":"skip","Package":"m/b"}` + "\n"
	)
	listed := []skip{{"a", "TestC", "no GPU on this machine"}}
	for _, c := range []struct {
		name, in string
		allowed  []skip
		wait     error
		out, err string
	}{
		{"pass", pass, nil, nil, "1 passed, 0 failed, 0 skipped\n", ""},
		{"listed skip", pass + skipped, listed, nil, "skip\tm/a TestC: no GPU on this machine\n1 passed, 0 failed, 1 skipped\n", ""},
		{"unlisted skip", pass + skipped, nil, nil, "no GPU\n1 passed, 0 failed, 1 skipped\n", "m/a TestC"},
		{"listed for another package", pass + skipped, []skip{{"b", "TestC", "x"}}, nil, "no GPU\n1 passed, 0 failed, 1 skipped\n", "m/a TestC"},
		{"failure", pass + fail, nil, errors.New("exit status 1"), "why\n1 passed, 1 failed, 0 skipped\n", "exit status 1"},
		{"failure that go test forgot", pass + fail, nil, nil, "why\n1 passed, 1 failed, 0 skipped\n", "1 tests failed"},
		{"nothing ran", empty, nil, nil, "0 passed, 0 failed, 0 skipped\n", "tests nothing"},
		{"go's own words", "go: no such package\n" + pass, nil, errors.New("exit status 2"), "go: no such package\n1 passed, 0 failed, 0 skipped\n", "exit status 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w strings.Builder
			ta := newTally(c.allowed, &w)
			require.NoError(t, ta.read(strings.NewReader(c.in)))
			err := ta.verdict(c.wait)
			require.Equal(t, c.out, w.String())
			if c.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.err)
			}
		})
	}
}
