//go:build !linux

package sandbox

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
)

type process struct{}

func execute(context.Context, Config, string, []string, bool) (*process, error) {
	return nil, fmt.Errorf("%w: %s", ErrUnsupported, runtime.GOOS)
}

func (*process) wait() (Result, error)       { return Result{}, ErrUnsupported }
func (*process) signal(syscall.Signal) error { return ErrUnsupported }
func (*process) kill()                       {}

func (*process) dial(context.Context, string, string) (net.Conn, error) { return nil, ErrUnsupported }

func (*process) terms() terms { return terms{} }

type session struct{}

func (*session) terms() terms   { return terms{} }
func (*session) result() Result { return Result{} }

func newSession(context.Context, executor, Config) (*session, error) {
	return nil, fmt.Errorf("%w: %s", ErrUnsupported, runtime.GOOS)
}

func (*session) exec(context.Context, string) (ExecResult, error) {
	return ExecResult{}, ErrUnsupported
}
func (*session) fork(context.Context) (*Session, error) { return nil, ErrUnsupported }
func (*session) overlay() *Overlay                      { return nil }

func (*session) dial(context.Context, string, string) (net.Conn, error) { return nil, ErrUnsupported }

func (*session) read([]byte) (int, error)    { return 0, ErrUnsupported }
func (*session) write([]byte) (int, error)   { return 0, ErrUnsupported }
func (*session) resize(_, _ uint16) error    { return ErrUnsupported }
func (*session) signal(syscall.Signal) error { return ErrUnsupported }
func (*session) level() Level                { return 0 }
func (*session) lacks() []string             { return nil }
func (*session) net() []NetRecord            { return nil }
func (*session) files(context.Context, string, FileLimits) (*Files, error) {
	return nil, ErrUnsupported
}
func (*session) violations() []string { return nil }
func (*session) wait() error          { return ErrUnsupported }
func (*session) close() error         { return ErrUnsupported }

func gpuDevices() []string { return nil }

type auditSink struct{ path string }

func openAuditSink(string) (*auditSink, error) {
	return nil, fmt.Errorf("%w: %s", ErrUnsupported, runtime.GOOS)
}
func (*auditSink) Write(b []byte) (int, error) { return 0, ErrUnsupported }
func (*auditSink) sync() error                 { return ErrUnsupported }
func (*auditSink) close() error                { return ErrUnsupported }

type pool struct{}

func newPool(Config, int) (*pool, error) {
	return nil, fmt.Errorf("%w: %s", ErrUnsupported, runtime.GOOS)
}

func (*pool) execute(context.Context, Config, string, []string, bool) (*process, error) {
	return nil, ErrUnsupported
}
func (*pool) stats() PoolStats { return PoolStats{} }
func (*pool) close() error     { return nil }

func installHelper(string) error { return fmt.Errorf("%w: %s", ErrUnsupported, runtime.GOOS) }

func probe(context.Context) (Report, error) {
	return Report{}, fmt.Errorf("%w: %s", ErrUnsupported, runtime.GOOS)
}

func rootFromTar(context.Context, io.Reader, string, FileLimits) (TarReport, error) {
	return TarReport{}, fmt.Errorf("%w: %s", ErrUnsupported, runtime.GOOS)
}

type overlay struct{}

func newOverlay(string, OverlayOptions) (*overlay, error) {
	return nil, fmt.Errorf("%w: %s", ErrUnsupported, runtime.GOOS)
}

func (*overlay) diff(context.Context) ([]Change, error)   { return nil, ErrUnsupported }
func (*overlay) commit(context.Context) ([]Change, error) { return nil, ErrUnsupported }
func (*overlay) discard() error                           { return ErrUnsupported }
func (*overlay) fork(context.Context) (*overlay, error)   { return nil, ErrUnsupported }
func (*overlay) close() error                             { return ErrUnsupported }

type owner struct{}

func (owner) do(f func() error) error { return f() }

func isMountPoint(*os.Root, string) bool { return false }

func openFiles(string, FileLimits) (*Files, error) {
	return nil, fmt.Errorf("%w: %s", ErrUnsupported, runtime.GOOS)
}
