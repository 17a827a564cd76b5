// Command audit runs commands of which each leaves one line in a file, also those
// that were refused, and shows what is on record.
//
//	go run ./examples/audit
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

func main() {
	if err := demonstrate(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "audit:", err)
		os.Exit(1)
	}
}

func demonstrate(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "audit-example-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "audit.jsonl")
	file, err := sandbox.OpenAuditFile(path)
	if err != nil {
		return err
	}
	config := sandbox.Config{
		Env:   map[string]string{"TOKEN": "never on record"},
		Audit: file.WithAttrs([]slog.Attr{slog.String("actor", "alice")}),
	}
	for _, command := range []string{"echo hello", "kill -TERM $$", ""} {
		var refused *sandbox.ErrConfig
		if _, err := sandbox.Run(ctx, config, command); err != nil && !errors.As(err, &refused) {
			return err
		}
	}
	if err := file.Close(); err != nil {
		return err
	}
	return show(path)
}

func show(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var r struct {
			Actor, Outcome, Signal, Error string
			Argv, Env                     []string
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return err
		}
		fmt.Printf("%s ran %q with %q: %s %s%s\n", r.Actor, r.Argv, r.Env, r.Outcome, r.Signal, r.Error)
	}
	return lines.Err()
}
