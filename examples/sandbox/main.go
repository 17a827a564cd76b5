// Command sandbox runs bash where it can do no harm, and shows what it could not reach.
//
//	go run ./examples/sandbox
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// steps are what is tried, and the command that tries it.
var steps = []struct{ what, command string }{
	{"compute", `echo $((6 * 7)); echo hello > /workspace/note; cat /workspace/note`},
	{"who am I, with which rights", `id -un; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status`},
	{"read a secret of the host", `cat /etc/shadow`},
	{"see the host's processes", `ls /proc | grep -c '^[0-9]'`},
	{"reach the network", `exec 3<>/dev/tcp/192.0.2.1/80`},
	{"change the system", `touch /usr/bin/planted`},
	{"run for ever", `while :; do :; done`},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := demonstrate(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		os.Exit(1)
	}
}

func demonstrate(ctx context.Context) (err error) {
	// One workspace for all steps; everything else of a sandbox dies with it.
	dir, err := os.MkdirTemp("", "sandbox-example-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	config := sandbox.Config{
		Workspace: dir,
		Limits:    sandbox.Limits{Wall: 2 * time.Second, Memory: 256 << 20},
	}
	for _, step := range steps {
		// The error is ours alone: a command that fails is a Result.
		r, err := sandbox.Run(ctx, config, step.command)
		if err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		end := fmt.Sprintf("exit code %d", r.ExitCode)
		if r.Limit != "" {
			end = fmt.Sprintf("stopped, limit: %s", r.Limit)
		}
		fmt.Printf("%s (%s, %v)\n  $ %s\n", step.what, end, r.Duration.Round(time.Millisecond), step.command)
		show(r.Stdout, r.Stderr)
	}
	return converse(ctx, config)
}

// converse runs commands in one shell, which keeps what they change and start.
func converse(ctx context.Context, config sandbox.Config) error {
	session, err := sandbox.NewSession(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }() // ends the job in the background too
	fmt.Println("one shell across commands, on a terminal of its own")
	for _, command := range []string{"cd /tmp; sleep 1000 &", "pwd; jobs; tty"} {
		r, err := session.Exec(ctx, command)
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		fmt.Printf("  $ %s\n", command)
		show(r.Stdout, r.Stderr)
	}
	return nil
}

func show(outputs ...[]byte) {
	for line := range strings.Lines(string(slices.Concat(outputs...))) {
		fmt.Printf("  %s\n", strings.TrimRight(line, "\n"))
	}
}
