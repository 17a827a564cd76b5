package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
)

// A person is asked before each command, which they can run, refuse, or end.
func TestAgentAsks(t *testing.T) {
	workspace := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(workspace, "log.txt"), []byte("Clara Winter\nEmma Baker\n"), 0o600))
	for name, tt := range map[string]struct {
		keys, shows string
		code        int
	}{
		"yes":    {"y\r", "\r\n  Emma Baker\r\n", exitFailure}, // of --steps 1
		"no":     {"\r", "\r\n  The user refused this call.\r\n", exitFailure},
		"Ctrl-C": {"\x03", "^C", 130},
		"Ctrl-D": {"\x04", "approval: the input has ended", exitFailure},
	} {
		t.Run(name, func(t *testing.T) {
			c := &cli{t: t, cmd: exec.Command("lm-sandbox", "agent", "-t", "1", "--approve", "ask", "--steps", "1", "--workspace", workspace, "Print the last line of log.txt.")}
			terminal, err := pty.Start(c.cmd)
			require.NoError(t, err)
			t.Cleanup(func() {
				_ = terminal.Close()
				c.kill()
			})
			c.stdout = terminal
			c.read("$ tail -n 1 log.txt\r\nrun it? [y/N] ")
			started := c.awaitDescendant("bash")
			_, err = terminal.WriteString(tt.keys)
			require.NoError(t, err)
			var shown bytes.Buffer
			if _, err := io.Copy(&shown, terminal); err != nil && !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			require.Equal(t, tt.code, c.wait(), shown.String())
			require.Contains(t, shown.String(), tt.shows)
			wantDead(t, started)
		})
	}
}
