package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"unicode/utf8"
)

// AuditFile is an append-only file of JSON Lines, for [Config.Audit]: one line
// for each record, in ASCII, docs/audit.md describes the fields. Its methods may
// be called from any number of goroutines, and several processes may append to
// the same file: a line is never mixed with another.
//
// A process that is killed while it writes leaves a line without its end. The
// next record of any process ends that line and says at which offset it is:
// nothing is ever removed. Records are in the page cache when Handle returns, which
// outlives the process and not a power failure: Sync and Close write them to disk.
//
// A file that is full, deleted or held by another process for longer than 5 s
// makes Handle return [ErrAudit], which [Run] and the like pass on.
type AuditFile struct {
	handler slog.Handler
	sink    *auditSink
}

// OpenAuditFile opens the file, or makes it with mode 0600, and ends a torn last
// line. Who else may write could forge records, so that a link, anything but a
// plain file of this user with a single name, and one that others may write to are
// refused; the directory is the caller's to guard. A sandbox that sees the file, by its
// workspace, root or a bind, is an [ErrConfig] when it is started.
//
// Close it after the last run. Attributes of one's own, such as the name of the
// person or agent behind a run, are added by WithAttrs.
//
// # Errors
//
// [ErrAudit], [ErrUnsupported].
func OpenAuditFile(path string) (*AuditFile, error) {
	sink, err := openAuditSink(path)
	if err != nil {
		return nil, err
	}
	return &AuditFile{slog.NewJSONHandler(sink, nil), sink}, nil
}

// Enabled reports true: every record counts.
func (f *AuditFile) Enabled(context.Context, slog.Level) bool { return true }

// Handle appends one line. The error is an [ErrAudit].
func (f *AuditFile) Handle(ctx context.Context, r slog.Record) error {
	if err := f.handler.Handle(ctx, r); err != nil {
		return &ErrAudit{f.sink.path, err}
	}
	return nil
}

// WithAttrs returns a handler for the same file that adds attributes to each
// line. It is an *AuditFile, and closing either closes both.
func (f *AuditFile) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &AuditFile{f.handler.WithAttrs(attrs), f.sink}
}

// WithGroup returns a handler for the same file, as WithAttrs does.
func (f *AuditFile) WithGroup(name string) slog.Handler {
	return &AuditFile{f.handler.WithGroup(name), f.sink}
}

// Sync waits until all lines are on disk (fdatasync).
func (f *AuditFile) Sync() error { return f.sink.sync() }

// Close writes all lines to disk and closes the file. Later records are an error.
func (f *AuditFile) Close() error { return f.sink.close() }

// ascii writes what is not printable ASCII as JSON's escapes, so that nothing in a
// record is mistaken for a command by the terminal on which the file is read.
func ascii(line []byte) []byte {
	out := make([]byte, 0, len(line))
	for len(line) > 0 {
		r, n := utf8.DecodeRune(line)
		switch {
		case r < 0x7f:
			out = append(out, byte(r))
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		line = line[n:]
	}
	return out
}
