package main

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

// On a terminal the answer ends with a newline; in a file it is what the model said.
func TestRunEndsLineOnTerminalOnly(t *testing.T) {
	args := []string{"run", "--raw", "-p", "The capital of France is", "-n", "2", "--temp", "0"}
	piped, err := exec.Command("lm-sandbox", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	if string(piped) != " Paris." {
		t.Fatalf("piped: %q", piped)
	}
	terminal, err := pty.Start(exec.Command("lm-sandbox", args...))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	var shown bytes.Buffer
	// Linux ends a terminal whose other side is closed with EIO.
	if _, err := io.Copy(&shown, terminal); err != nil && !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if shown.String() != " Paris.\r\n" {
		t.Errorf("on a terminal: %q", &shown)
	}
}

// Without a prompt 'run' does not wait for a terminal to say something.
func TestRunAsksForPromptOnTerminal(t *testing.T) {
	cmd := exec.Command("lm-sandbox", "run")
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	var shown bytes.Buffer
	if _, err := io.Copy(&shown, terminal); err != nil && !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the state says it all
	if cmd.ProcessState.ExitCode() != exitUsage || !bytes.Contains(shown.Bytes(), []byte("no prompt")) {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), &shown)
	}
}

// Ctrl-C reaches every process of the terminal's foreground group at once.
func TestBashInterruptedOnTerminal(t *testing.T) {
	c := &cli{t: t, cmd: exec.Command("lm-sandbox", "bash", "-c", "sleep 300 & echo ready; wait")}
	terminal, err := pty.Start(c.cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	c.stdout = terminal
	c.read("ready\r\n")
	started := c.awaitDescendant("sleep")
	if _, err := terminal.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	if _, err := io.Copy(&shown, terminal); err != nil && !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if code := c.wait(); code != 130 || shown.String() != "^C" {
		t.Errorf("exit code %d, want 130; it printed %q", code, &shown)
	}
	wantDead(t, started)
}
