package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Overlay is a workspace whose changes are kept apart from the directory that it is
// based on: that one is only read until [Overlay.Commit]. Set it as [Config.Overlay]
// of one sandbox after another, each of which sees what those before it changed. It
// is an overlayfs that the sandbox mounts itself (Linux 5.11; 5.19 where root lends a
// directory of its own).
//
// The base should not change while sandboxes run on it: they may then see either
// state (Linux: Documentation/filesystems/overlayfs.rst). Mounts below it are not shown.
//
// Its methods may be called from any number of goroutines.
type Overlay struct{ impl *overlay }

// OverlayOptions are those of [NewOverlay].
type OverlayOptions struct {
	// Dir is the host directory for the changes, "" is os.TempDir(). It must be on a
	// filesystem with user.* extended attributes that is no overlay itself: ext4, xfs,
	// btrfs, from Linux 6.6 tmpfs. Each Overlay makes a directory of its own in it.
	Dir string
	// Limits bounds Diff, Commit and Fork: bytes and number of all changes.
	Limits FileLimits
}

// ChangeKind says what happened to a path.
type ChangeKind string

// The kinds of a [Change].
const (
	ChangeAdded    ChangeKind = "added"
	ChangeModified ChangeKind = "modified" // its content, its permission bits or its type
	ChangeDeleted  ChangeKind = "deleted"  // a directory with all that was in it
)

// Change is one difference between an [Overlay] and its base. A file that was
// renamed is deleted and added.
type Change struct {
	Path string
	Kind ChangeKind
	Mode fs.FileMode // type and permission bits of what is there now, or was
	Size int64       // of a regular file
}

// ErrOverlay is a host, or a directory, that cannot have an overlay.
type ErrOverlay struct {
	Path   string
	Reason string
	Remedy string
	Err    error
}

func (e *ErrOverlay) Error() string {
	return fmt.Sprintf("sandbox: no overlay of %s: %s; %s", e.Path, e.Reason, e.Remedy)
}

func (e *ErrOverlay) Unwrap() error { return e.Err }

// ErrConflict is a Commit of changes to what has changed in the base since the
// [Overlay] was made, or last committed. Nothing was written.
type ErrConflict struct{ Paths []string }

func (e *ErrConflict) Error() string {
	return "sandbox: the base has changed too: " + someOf(e.Paths) + "; look at both and Discard, or put the files there yourself"
}

// ErrProtected is a Commit of changes to paths that a [Config.Protect] of the
// sandboxes named. Nothing was written.
type ErrProtected struct{ Paths []string }

func (e *ErrProtected) Error() string {
	return "sandbox: protected paths have been changed: " + someOf(e.Paths) + "; Discard, or put the files there yourself"
}

func someOf(paths []string) string {
	const most = 5
	if len(paths) <= most {
		return strings.Join(paths, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(paths[:most], ", "), len(paths)-most)
}

// ErrBusy is an [Overlay] that a sandbox runs on.
var ErrBusy = errors.New("sandbox: the overlay is in use by a sandbox: wait for its end, or use Overlay.Fork")

// ErrOverlayClosed is an [Overlay] that was closed. errors.Is(err, os.ErrClosed) holds too.
var ErrOverlayClosed = fmt.Errorf("sandbox: the overlay is closed: %w", os.ErrClosed)

// NewOverlay makes an overlay without changes on a directory, for which the rules of
// [Config.Workspace] hold. Close must be called; what a caller that was killed has
// left in Dir, the next NewOverlay removes.
//
// # Errors
//
// [ErrConfig], [ErrOverlay], [ErrUnsupported].
func NewOverlay(base string, o OverlayOptions) (*Overlay, error) {
	impl, err := newOverlay(base, o)
	if err != nil {
		return nil, err
	}
	return &Overlay{impl}, nil
}

// Diff returns the changes, sorted by path. A file that was written with the same
// content and permissions is none. It may be called while a sandbox runs, and then
// tells what it saw on its way.
//
// # Errors
//
// [ErrFile], [ErrTooLarge], [ErrOverlayClosed], ctx's.
func (o *Overlay) Diff(ctx context.Context) ([]Change, error) { return o.impl.diff(ctx) }

// Commit applies the changes to the base and returns them; the overlay is without
// changes then. Files are replaced in one step each, deletions come last, and all is
// on disk before the overlay forgets it: a Commit that failed half way (no space) can
// be called again; what one that was killed leaves behind is in docs/files.md. A sandbox that is started meanwhile, and every other
// method, waits for it; as long as its context lasts, if it has one. What is written belongs to the base's owner and has no set-id bits.
//
// # Errors
//
// [ErrConflict], [ErrProtected], [ErrBusy], [ErrFile] (a pipe or socket, which must be
// deleted first), [ErrTooLarge], [ErrOverlayClosed], ctx's.
func (o *Overlay) Commit(ctx context.Context) ([]Change, error) { return o.impl.commit(ctx) }

// Discard forgets the changes.
//
// # Errors
//
// [ErrBusy], [ErrOverlayClosed], [ErrFile].
func (o *Overlay) Discard() error { return o.impl.discard() }

// Fork returns another overlay on the same base with the same changes; each goes
// its own way. Data is shared where the filesystem can (FICLONE), else copied. Of
// an overlay with a running sandbox it is no snapshot: files are copied one by one.
//
// # Errors
//
// [ErrTooLarge], [ErrFile], [ErrOverlayClosed], ctx's.
func (o *Overlay) Fork(ctx context.Context) (*Overlay, error) {
	impl, err := o.impl.fork(ctx)
	if err != nil {
		return nil, err
	}
	return &Overlay{impl}, nil
}

// Close discards the changes and frees everything. It may be called more than once.
//
// # Errors
//
// [ErrBusy], [ErrFile].
func (o *Overlay) Close() error { return o.impl.close() }
