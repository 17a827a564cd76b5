// Command lm-sandbox runs a local language model inside its own process and
// bash inside a sandbox: from the command line, and as an HTTP service.
//
// It is a thin edge. A subcommand turns flags into the structs of llama/engine,
// sandbox or internal/server, calls them, and writes what comes back: answers to
// stdout, everything else to stderr.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

func main() {
	engine.RunWorker()
	os.Exit(run(os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// stdio is what the process reads from and writes to.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// run executes one command line and returns the exit code of the process.
func run(args []string, std stdio) int {
	ctx, stop := withInterrupt(context.Background())
	defer stop()

	started, verbose := false, false
	root := newRoot(std, &verbose)
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.PersistentPreRun = func(*cobra.Command, []string) {
		started = true
		if verbose {
			llama.SetLogger(slog.New(slog.NewTextHandler(std.err, nil)))
		}
	}

	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !started {
		// Cobra refused the command line before it called one of our functions.
		err = usage(err, "%s", usageHint(cmd))
	}
	return report(ctx, std.err, err)
}

// usageHint names the command that was probably meant, else the help of cmd.
func usageHint(cmd *cobra.Command) string {
	if word := cmd.Flags().Arg(0); word != "" { // everything is near to nothing
		if near := cmd.SuggestionsFor(word); len(near) > 0 {
			return fmt.Sprintf("did you mean '%s %s'?", cmd.CommandPath(), near[0])
		}
	}
	return fmt.Sprintf("see '%s --help'", cmd.CommandPath())
}

// report writes err to w the way every message of this program is written
// (prefix, lower case, no full stop, then the hint) and returns its exit code.
func report(ctx context.Context, w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	f := asFailure(err)
	var sig interrupted
	if errors.As(context.Cause(ctx), &sig) {
		if errors.Is(err, context.Canceled) {
			return sig.exitCode()
		}
		f.code = sig.exitCode()
	}
	if errors.Is(err, syscall.EPIPE) {
		// The reader of stdout left. Usually the runtime has already raised SIGPIPE; it
		// has not where the parent process made us ignore it.
		return exitSignal + int(syscall.SIGPIPE)
	}
	if f.err != nil {
		// Nothing is left to tell where stderr itself cannot be written.
		_, _ = fmt.Fprintf(w, "lm-sandbox: %v\n", f.err)
	}
	if f.hint != "" {
		_, _ = fmt.Fprintf(w, "lm-sandbox: hint: %s\n", f.hint)
	}
	return f.code
}
