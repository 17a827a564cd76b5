//go:build linux || darwin

// Package flock locks files between processes and goroutines.
package flock

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Lock takes the exclusive lock on path, which it makes where it is absent, and waits for it as long as ctx lives. The file
// stays: to remove it would let two processes hold two locks of one name. flock(2) is of the open file, so it holds between
// goroutines too, and ends with the process.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	// A blocking flock(2) could not be cancelled, so it is asked again and again.
	ask := time.NewTicker(50 * time.Millisecond)
	defer ask.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil // closing releases
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			_ = f.Close()
			return nil, &os.PathError{Op: "flock", Path: path, Err: err}
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-ask.C:
		}
	}
}
