package hub

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// What can go wrong with a pull, for errors.Is. The types below carry the details, for errors.As.
var (
	ErrRef         = errors.New("invalid model reference")       // the reference cannot be understood
	ErrNotFound    = errors.New("model not found")               // no such file, repository or quantisation
	ErrAccess      = errors.New("access denied")                 // 401 or 403
	ErrAmbiguous   = errors.New("several models match")          // see AmbiguousError
	ErrModelFormat = errors.New("not a GGUF model")              // the bytes do not begin as a GGUF file does
	ErrChecksum    = errors.New("checksum mismatch")             // the bytes are not those that were promised
	ErrDiskFull    = errors.New("not enough disk space")         // see DiskFullError
	ErrInsecure    = errors.New("insecure connection refused")   // plain http beyond loopback, or https turned into http
	ErrUnavailable = errors.New("model server is unavailable")   // the retries are used up, or an unexpected answer
	ErrPip         = errors.New("pip could not fetch the model") // see PipError
)

// RefError tells what is wrong with a model reference. It is ErrRef.
type RefError struct{ Ref, Reason string }

func (e *RefError) Error() string {
	return e.Reason + "; a model is default, gemma3-270m, a path, an https:// URL or hf:OWNER/REPO[:FILE|QUANT]"
}

// Is reports whether target is ErrRef.
func (e *RefError) Is(target error) bool { return target == ErrRef }

// ChecksumError tells which file differs from what was promised. It is ErrChecksum.
type ChecksumError struct {
	File      string // a path or a URL
	Want, Got string // sha256 in hexadecimal, or "N bytes"
}

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%s: %v: want %s, got %s; pull it again, and if it stays so, the source has changed or is not to be trusted",
		e.File, ErrChecksum, e.Want, e.Got)
}

// Is reports whether target is ErrChecksum.
func (e *ChecksumError) Is(target error) bool { return target == ErrChecksum }

// FormatError tells why a file or a server's answer is no model. It is ErrModelFormat.
type FormatError struct{ File, Reason string }

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: %v: %s", e.File, ErrModelFormat, e.Reason)
}

// Is reports whether target is ErrModelFormat.
func (e *FormatError) Is(target error) bool { return target == ErrModelFormat }

// DiskFullError tells how much space a model needs. It is ErrDiskFull. What was fetched so far is kept and resumed.
type DiskFullError struct {
	Dir        string // the directory that was to hold the model
	Need, Free int64  // bytes still needed (0 = unknown), and bytes free there (-1 = unknown)
}

func (e *DiskFullError) Error() string {
	free := "unknown"
	if e.Free >= 0 {
		free = megabytes(e.Free)
	}
	need := "more is"
	if e.Need > 0 {
		need = megabytes(e.Need) + " more are"
	}
	return fmt.Sprintf("%s: %v: %s needed, %s free; free some space there or set XDG_CACHE_HOME to a larger disk, then pull again",
		e.Dir, ErrDiskFull, need, free)
}

// Is reports whether target is ErrDiskFull.
func (e *DiskFullError) Is(target error) bool { return target == ErrDiskFull }

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// AmbiguousError lists the models of a repository that a reference could mean. It is ErrAmbiguous.
type AmbiguousError struct {
	Repo       string   // OWNER/REPO
	Candidates []string // paths in the repository; each can be the FILE of hf:OWNER/REPO:FILE
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%v; name one of them as hf:%s:FILE: %s", ErrAmbiguous, e.Repo, someOf(e.Candidates))
}

// someOf lists names, but not hundreds of them.
func someOf(names []string) string {
	const most = 20
	if n := len(names) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n)
	}
	return strings.Join(names, ", ")
}

// Is reports whether target is ErrAmbiguous.
func (e *AmbiguousError) Is(target error) bool { return target == ErrAmbiguous }

// StatusError is an answer other than the one hoped for. It is ErrNotFound (404, 410), ErrAccess (401, 403) or else
// ErrUnavailable.
type StatusError struct {
	URL        string // without its query, which may hold a secret
	Code       int
	RetryAfter time.Duration // what the server asked for; 0 = nothing
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s: %d %s", e.URL, e.Code, http.StatusText(e.Code))
	switch {
	case e.Is(ErrAccess):
		return s + ": the model is private, gated or does not exist: check the name, set HF_TOKEN for a hub model, and accept its licence on its page"
	case e.Is(ErrNotFound):
		return s + ": check the spelling of the reference"
	case e.RetryAfter > 0:
		return fmt.Sprintf("%s: try again in %v", s, e.RetryAfter.Round(time.Second))
	}
	return s + ": try again later"
}

// Is reports whether target is the sentinel of the code.
func (e *StatusError) Is(target error) bool {
	switch e.Code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == ErrAccess
	case http.StatusNotFound, http.StatusGone:
		return target == ErrNotFound
	}
	return target == ErrUnavailable
}

// PipError tells why pip brought nothing. It is ErrPip.
type PipError struct {
	Package string // name==version
	Reason  string // the last words of pip, or why it was not started
	Err     error  // of the process; nil where none was started
}

func (e *PipError) Error() string { return fmt.Sprintf("pip download %s: %s", e.Package, e.Reason) }

// Is reports whether target is ErrPip.
func (e *PipError) Is(target error) bool { return target == ErrPip }

// Unwrap returns the error of the process.
func (e *PipError) Unwrap() error { return e.Err }
