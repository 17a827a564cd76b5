//go:build !linux && !darwin

package flock

import (
	"context"
	"errors"
)

// Lock is not there.
func Lock(context.Context, string) (unlock func(), err error) { return nil, errors.ErrUnsupported }
