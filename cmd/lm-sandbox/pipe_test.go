package main

import (
	"io"
	"syscall"
	"testing"
)

// A reader that leaves ends the command without a word, as in 'lm-sandbox … | head -1'.
func TestBrokenPipeIsQuiet(t *testing.T) {
	for name, args := range map[string][]string{
		"run":  {"run", "--raw", "-p", "Count: 1 2 3 4 5", "-n", "0", "--ignore-eos", "--temp", "0"},
		"bash": {"bash", "-c", "echo ready; while echo more; do :; done"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, args...)
			if _, err := io.ReadFull(c.stdout, make([]byte, 1)); err != nil {
				t.Fatalf("no output: %v; stderr: %s", err, &c.stderr)
			}
			started := c.descendants()
			if err := c.stdout.Close(); err != nil {
				t.Fatal(err)
			}
			if code := c.wait(); code != 128+int(syscall.SIGPIPE) {
				t.Errorf("exit code %d, want that of SIGPIPE", code)
			}
			if c.stderr.Len() > 0 {
				t.Errorf("stderr: %s", &c.stderr)
			}
			wantDead(t, started)
		})
	}
}
