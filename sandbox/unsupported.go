//go:build !linux

package sandbox

import (
	"context"
	"fmt"
	"runtime"
)

type process struct{}

func start(context.Context, Config, string, []string) (*Process, error) {
	return nil, fmt.Errorf("%w: %s", ErrUnsupported, runtime.GOOS)
}

func (*process) wait() (Result, error) { return Result{}, ErrUnsupported }
func (*process) signal(int) error      { return ErrUnsupported }
func (*process) kill()                 {}

func probe(context.Context) (Report, error) {
	return Report{}, fmt.Errorf("%w: %s", ErrUnsupported, runtime.GOOS)
}
