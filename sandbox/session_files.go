package sandbox

import (
	"context"
	"io"
	"io/fs"
)

// Files is a view of a directory inside the sandbox, as its programs see it: of
// /workspace, /tmp, /home/user or below, or where a Bind is. What is read-only for
// them is so here. It needs not be a directory of the host at all, and stays
// usable, until its Close, when the session has ended.
//
// # Errors
//
// [ErrConfig] (dir, limits), [ErrFile] (no such directory), [ErrShellExited], [ErrClosed], ctx's.
func (s *Session) Files(ctx context.Context, dir string, limits FileLimits) (*Files, error) {
	return s.impl.files(ctx, dir, limits)
}

// ProtectViolations are the paths of [Config.Protect] that are not what they were when
// the session began: as Result.ProtectViolations, at any time.
func (s *Session) ProtectViolations() []string { return s.impl.violations() }

// PutFile writes a file in /workspace as [Files.PutFile] does, with the default limits.
//
// # Errors
//
// Those of [Session.Files] and [Files.PutFile].
func (s *Session) PutFile(ctx context.Context, name string, r io.Reader, mode fs.FileMode) error {
	f, err := s.impl.files(ctx, "/workspace", FileLimits{})
	if err != nil {
		return err
	}
	defer f.Close()
	return f.PutFile(name, r, mode)
}

// GetFile opens a file in /workspace as [Files.GetFile] does, with the default limits.
//
// # Errors
//
// Those of [Session.Files] and [Files.GetFile].
func (s *Session) GetFile(ctx context.Context, name string) (io.ReadCloser, FileInfo, error) {
	f, err := s.impl.files(ctx, "/workspace", FileLimits{})
	if err != nil {
		return nil, FileInfo{}, err
	}
	defer f.Close()
	return f.GetFile(name)
}
