package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// open is the sandbox of the flags, on an overlay of the workspace where changes are
// only to be shown; what it returns closes all that belongs to it.
func (f *bashFlags) open() (sandbox.Config, func() error, error) {
	if f.diff && f.sandbox.workspace == "" {
		return sandbox.Config{}, nil, usage(errors.New("--diff is of a workspace"), "add --workspace")
	}
	c, closeAudit, err := f.sandbox.open()
	if err != nil || !f.diff {
		return c, closeAudit, err
	}
	overlay, err := sandbox.NewOverlay(c.Workspace, sandbox.OverlayOptions{})
	if err != nil {
		return c, nil, errors.Join(sandboxFailure(err), closeAudit())
	}
	c.Workspace, c.Overlay = "", overlay
	return c, func() error { return errors.Join(overlay.Close(), closeAudit()) }, nil
}

// change is one path that a command would have changed.
type change struct {
	Kind sandbox.ChangeKind `json:"kind"`
	Path string             `json:"path"`
}

// changes are those of an overlay, or none.
func changes(ctx context.Context, c sandbox.Config) ([]change, error) {
	if c.Overlay == nil {
		return nil, nil
	}
	list, err := c.Overlay.Diff(ctx)
	if err != nil {
		return nil, sandboxFailure(err)
	}
	found := make([]change, len(list))
	for i, l := range list {
		found[i] = change{l.Kind, l.Path}
	}
	return found, nil
}

// writeChanges writes one line for each; names are quoted where they are not plain.
func writeChanges(w io.Writer, list []change) error {
	var b strings.Builder
	for _, c := range list {
		fmt.Fprintf(&b, "%s %s\n", c.Kind, plainPath(c.Path))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeViolations tells of protected paths that are not what they were.
func writeViolations(w io.Writer, paths []string) error {
	var b strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&b, "lm-sandbox: warning: the protected path %s is not what it was: look at it before it is used\n", plainPath(p))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func plainPath(path string) string {
	if quoted := fmt.Sprintf("%+q", path); quoted != `"`+path+`"` {
		return quoted
	}
	return path
}
