// Command changes lets a command work on a directory without changing it, shows what
// it did, and takes that over only then.
//
//	go run ./examples/changes
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

func main() {
	if err := demonstrate(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "changes:", err)
		os.Exit(1)
	}
}

func demonstrate(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "changes-example-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("first\n"), 0o644); err != nil {
		return err
	}
	overlay, err := sandbox.NewOverlay(dir, sandbox.OverlayOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, overlay.Close()) }()
	config := sandbox.Config{Overlay: overlay, Protect: sandbox.DefaultProtect()}
	if _, err := sandbox.Run(ctx, config, "echo second >>notes.txt; mkdir build; echo 42 >build/answer"); err != nil {
		return err
	}
	changes, err := overlay.Diff(ctx)
	if err != nil {
		return err
	}
	for _, c := range changes {
		fmt.Println(c.Kind, c.Path)
	}
	if err := tell(dir, "before Commit"); err != nil {
		return err
	}
	if _, err := overlay.Commit(ctx); err != nil {
		return err
	}
	return tell(dir, "after Commit")
}

func tell(dir, when string) error {
	b, err := os.ReadFile(filepath.Join(dir, "notes.txt"))
	fmt.Printf("notes.txt %s: %q\n", when, b)
	return err
}
