package sandbox

import (
	"context"
	"io"
)

// RootFromTar unpacks the file tree of a system, plain or gzip, as "docker export"
// writes it, into a directory that does not exist yet or is empty, for [Config.Root].
// No privilege is needed: everything belongs to the caller, set-id bits are dropped, and
// devices, pipes and sockets are left out and reported. Symbolic links may point
// anywhere, as the sandbox resolves them in the tree; nothing is unpacked through them.
// The directory is there whole or not at all.
//
// Zero fields of limits are 2 GiB for a file, 8 GiB in all and 1048576 entries.
//
// # Errors
//
// [ErrConfig] (dir, limits), [ErrFile] (an entry, as with [Files.PutTar]; a layer of an
// image instead of a tree), [ErrTooLarge], those of r, ctx's, [ErrUnsupported].
func RootFromTar(ctx context.Context, r io.Reader, dir string, limits FileLimits) (TarReport, error) {
	return rootFromTar(ctx, r, dir, limits)
}
