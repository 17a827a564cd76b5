// Command testgate runs `go test -json` and lets nothing pass by silence: a
// test that was skipped must stand in the checked-in list with its reason, or
// the run fails. It ends with one line, "N passed, N failed, N skipped".
//
//	go run ./internal/testgate -skips skips.txt -- -race ./...
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	skips := flag.String("skips", "skips.txt", "list of the skips that are allowed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := gate(ctx, *skips, flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testgate:", err)
		os.Exit(1)
	}
}

// gate runs go test with args and judges what it reports.
func gate(ctx context.Context, skipsPath string, args []string, w io.Writer) error {
	allowed, err := readSkips(skipsPath)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting go test: %w", err)
	}
	t := newTally(allowed, w)
	readErr := t.read(out)
	waitErr := cmd.Wait()
	return errors.Join(readErr, t.verdict(waitErr))
}
