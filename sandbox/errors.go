package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrUnsupported is returned where there is no sandbox at all: on systems other
// than Linux, on architectures other than amd64 and arm64, and for features of
// [Config] that this version does not have. errors.Is(err, errors.ErrUnsupported)
// holds too.
var ErrUnsupported = fmt.Errorf("sandbox: %w", errors.ErrUnsupported)

// ErrConfig is a [Config], or a command, that cannot be right. Nothing was started.
type ErrConfig struct {
	Field  string // as in Config, for example "Limits.Memory" or "Binds[1].Target"
	Reason string
}

func (e *ErrConfig) Error() string { return "sandbox: " + e.Field + ": " + e.Reason }

// ErrUserNamespace is a host that refuses an unprivileged user namespace or
// what is done in one. Remedy says what its administrator can change.
type ErrUserNamespace struct {
	Reason string
	Remedy string
	Err    error // the system call's error
}

func (e *ErrUserNamespace) Error() string {
	return "sandbox: user namespaces are refused: " + e.Reason + "; " + e.Remedy
}

func (e *ErrUserNamespace) Unwrap() error { return e.Err }

// ErrLevel is a host that cannot isolate as strongly as [Config.MinLevel] asks, or
// a Config that needs more than the level that this host has. Where the host
// refuses namespaces it wraps [ErrUserNamespace].
type ErrLevel struct {
	Want, Have Level
	Reason     string
	Remedy     string
	Err        error // what the host refused, or nil
}

func (e *ErrLevel) Unwrap() error { return e.Err }

func (e *ErrLevel) Error() string {
	return fmt.Sprintf("sandbox: level %s is wanted, %s can be had: %s; %s", e.Want, e.Have, e.Reason, e.Remedy)
}

// ErrOwner is a writable directory that a root caller's sandbox cannot use,
// because it belongs to root and its filesystem has no idmapped mounts.
type ErrOwner struct {
	Path   string
	Remedy string
	Err    error
}

func (e *ErrOwner) Error() string {
	return fmt.Sprintf("sandbox: %s cannot be lent to an unprivileged user: %v; %s", e.Path, e.Err, e.Remedy)
}

func (e *ErrOwner) Unwrap() error { return e.Err }

// ErrExec is a program that could not be executed in the sandbox: absent, not
// executable, of another architecture.
type ErrExec struct {
	Path string // as given
	Err  error
}

func (e *ErrExec) Error() string { return fmt.Sprintf("sandbox: execute %q: %v", e.Path, e.Err) }

func (e *ErrExec) Unwrap() error { return e.Err }

// ErrSetup is a sandbox that could not be built for a reason that has no type of its own.
type ErrSetup struct {
	Stage  string // what the helper was doing
	Detail string // the path or the call
	Err    error
}

func (e *ErrSetup) Error() string {
	return fmt.Sprintf("sandbox: cannot %s: %s: %v; 'lm-sandbox doctor' shows what this host allows", e.Stage, e.Detail, e.Err)
}

func (e *ErrSetup) Unwrap() error { return e.Err }

// ErrStream is a stream of [Config] whose writer, or reader, failed. The command
// ran to its end all the same and its [Result] is complete; where a writer still
// blocked 2 s after the command had been stopped, it has what was read until then.
type ErrStream struct {
	Stream string // "Stdin", "Stdout" or "Stderr"
	Err    error
}

func (e *ErrStream) Error() string { return fmt.Sprintf("sandbox: stream %s: %v", e.Stream, e.Err) }

func (e *ErrStream) Unwrap() error { return e.Err }

// reason is an error without the path, which the caller knows.
func reason(err error) string {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err.Error()
	case errors.As(err, &l):
		return l.Err.Error()
	}
	return err.Error()
}
