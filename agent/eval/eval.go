// Package eval measures how many of some checkable tasks an agent does.
package eval

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/agent"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// Outcome is how a task ended.
type Outcome struct {
	Passed bool
	Answer string
	Usage  agent.Usage
	// Err is why there is no answer: a limit, or a shell that was ended. The work may
	// have been done all the same.
	Err error
}

// Run lets the agent do the task in a new directory, which is its workspace, and judges
// what it left there and answered. An agent that does not do it is an outcome; the error
// says that the model or the sandbox could not be used, or that ctx ended.
func Run(ctx context.Context, c agent.Config, t Task) (o Outcome, err error) {
	workspace, err := os.MkdirTemp("", "lm-sandbox-eval-")
	if err != nil {
		return o, fmt.Errorf("eval: %w", err)
	}
	defer func() { err = errors.Join(err, removeAll(workspace)) }()
	c.Sandbox.Workspace = workspace
	if setup, err := judge(ctx, c.Sandbox, t.Setup, ""); err != nil || setup.ExitCode != 0 {
		return o, errors.Join(fmt.Errorf("eval: %s: the setup failed with exit code %d: %s", t.Name, setup.ExitCode, setup.Stderr), err)
	}
	for event, err := range agent.Run(ctx, c, t.Task) {
		if done, ok := event.(agent.Done); ok {
			o.Answer, o.Usage = done.Answer, done.Usage
		}
		var limit *agent.ErrLimit
		var exited *sandbox.ErrShellExited
		switch {
		case errors.As(err, &limit), errors.As(err, &exited):
			o.Err = err
		case err != nil:
			return o, err
		}
	}
	check, err := judge(ctx, c.Sandbox, t.Check, o.Answer)
	o.Passed = err == nil && check.ExitCode == 0
	return o, err
}

// judge runs a script in a sandbox of its own, with nothing of the agent's but its files.
func judge(ctx context.Context, c sandbox.Config, script, stdin string) (sandbox.Result, error) {
	c.Stdin = strings.NewReader(stdin)
	return sandbox.Run(ctx, c, "set -e\n"+script)
}

// removeAll removes a tree whose directories may have lost their permissions.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
