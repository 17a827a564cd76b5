//go:build !linux && !darwin

package hub

import (
	"context"
	"errors"
	"os/exec"
)

func lock(context.Context, string) (func(), error) { return nil, errors.ErrUnsupported }

func freeSpace(string) int64 { return -1 }

func isDiskFull(error) bool { return false }

func killTree(*exec.Cmd) {}
