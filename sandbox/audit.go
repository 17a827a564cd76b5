package sandbox

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// ErrAudit is a record that could not be written. Where it comes from [Run] and
// the like, the command ran all the same and its result is complete: a caller
// whose records must not be missing stops here.
type ErrAudit struct {
	Path string // of the file, or "" for a handler of the caller's
	Err  error
}

func (e *ErrAudit) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("sandbox: the audit record was not written: %v", e.Err)
	}
	return fmt.Sprintf("sandbox: the audit record was not written to %s: %v", e.Path, e.Err)
}

func (e *ErrAudit) Unwrap() error { return e.Err }

const (
	maxAuditText = 16 << 10 // bytes of a command in its record
	maxAuditList = 64       // arguments, or names of variables
)

// changesPatience bounds the look at an overlay's changes; a record without them says so.
var changesPatience = 10 * time.Second

// audit is what is known of one call until its record is written. A nil one,
// where nobody asked for records, does nothing.
type audit struct {
	ctx     context.Context // for its values
	handler slog.Handler
	what    string // run, process, session, exec
	id      string
	session string // of an exec
	begin   time.Time
	argv    []string
	config  Config
	terms   terms
	once    sync.Once
	err     error
}

// audit begins the record of a call.
func (c *Config) audit(ctx context.Context, what string, argv ...string) *audit {
	if c.Audit == nil {
		return nil
	}
	return &audit{ctx: context.WithoutCancel(ctx), handler: c.Audit, what: what, id: rand.Text(), begin: time.Now(), argv: argv, config: *c}
}

// terms are what a sandbox was given, once it has been started.
type terms struct {
	policy string
	limits Limits
	level  Level
}

// under notes the terms that were in force.
func (a *audit) under(t terms) { a.terms, a.config.Limits = t, t.limits }

// exec begins the record of one command of a session.
func (a *audit) exec(ctx context.Context, command string) *audit {
	if a == nil {
		return nil
	}
	e := a.config.audit(ctx, "exec", command)
	e.session, e.terms = a.id, a.terms
	return e
}

// follow ties the record to a process that runs, or ends it with the reason why none does.
func (a *audit) follow(p *process, err error) (*Process, error) {
	if err != nil {
		return nil, a.end(Result{}, err)
	}
	if a != nil {
		a.under(p.terms())
	}
	return &Process{p, a}, nil
}

// end writes the record, once, and returns err with what prevented it.
func (a *audit) end(r Result, err error) error {
	if a == nil {
		return err
	}
	a.once.Do(func() {
		record := slog.NewRecord(time.Now(), slog.LevelInfo, "sandbox "+a.what, 0)
		record.AddAttrs(a.subject()...)
		record.AddAttrs(ending(r, err)...)
		record.AddAttrs(a.changes()...)
		// Enabled is not asked: there is no record that does not count.
		if failed := a.handler.Handle(a.ctx, record); failed != nil {
			var known *ErrAudit
			if !errors.As(failed, &known) {
				failed = &ErrAudit{Err: failed}
			}
			a.err = failed
		}
	})
	return errors.Join(err, a.err)
}

// subject is who wanted what, and under which rules.
func (a *audit) subject() []slog.Attr {
	argv, total, sum := bounded(a.argv)
	attrs := []slog.Attr{slog.String("id", a.id)}
	if a.session != "" {
		attrs = append(attrs, slog.String("session", a.session))
	}
	names := slices.Sorted(maps.Keys(a.config.Env))
	names, _, _ = bounded(names[:min(len(names), maxAuditList)])
	return append(attrs,
		slog.Time("begin", a.begin), slog.Float64("duration_ms", float64(time.Since(a.begin).Microseconds())/1000),
		slog.Int("uid", os.Getuid()), slog.Int("pid", os.Getpid()),
		slog.Any("argv", argv), slog.Int("argv_bytes", total), slog.String("argv_sha256", sum),
		slog.Any("env", names), slog.String("workspace", a.config.Workspace), slog.String("root", a.config.Root),
		slog.String("policy", a.terms.policy), slog.Any("limits", a.config.Limits))
}

// ending is how it ended and what it used.
func ending(r Result, err error) []slog.Attr {
	end := "exit"
	switch {
	case err != nil:
		end = "error"
	case r.Limit != LimitNone:
		end = "limit"
	case r.Signal != "":
		end = "signal"
	}
	attrs := []slog.Attr{slog.String("outcome", end), slog.Int("exit_code", r.ExitCode), slog.String("signal", r.Signal),
		slog.String("limit", string(r.Limit)), slog.String("isolation", r.Level.String()), slog.Any("lacks", r.Lacks),
		slog.Any("usage", r.Usage)}
	if len(r.Net) > 0 {
		attrs = append(attrs, slog.Any("net", r.Net), slog.Bool("net_truncated", r.NetTruncated))
	}
	if len(r.ProtectViolations) > 0 {
		attrs = append(attrs, slog.Any("protect_violations", r.ProtectViolations))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error_class", errorClass(err)), slog.String("error", cut(err.Error(), maxAuditText)))
	}
	return attrs
}

// changes are what an overlay has beyond its base, once nothing runs on it. What is
// written to a plain workspace is not known.
func (a *audit) changes() []slog.Attr {
	if a.config.Overlay == nil || a.what == "exec" || a.terms.policy == "" {
		return nil
	}
	// Not the caller's context, which may have ended with the command.
	ctx, cancel := context.WithTimeout(a.ctx, changesPatience)
	defer cancel()
	list, err := a.config.Overlay.Diff(ctx)
	if err != nil {
		return []slog.Attr{slog.String("changes_error", cut(err.Error(), maxAuditText))}
	}
	attrs := []slog.Attr{slog.Int("changes_count", len(list))}
	room := maxAuditText
	short := []string{}
	for _, c := range list {
		if room -= len(c.Path) + len(c.Kind) + 1; room < 0 {
			break
		}
		short = append(short, string(c.Kind)+" "+c.Path)
	}
	return append(attrs, slog.Any("changes", short))
}

// errorClass is the name of the first type of this package in err's tree, or of
// what it stands for.
func errorClass(err error) string {
	for _, known := range []struct {
		err  error
		name string
	}{{context.Canceled, "canceled"}, {context.DeadlineExceeded, "deadline"}, {ErrUnsupported, "ErrUnsupported"}, {ErrClosed, "ErrClosed"}, {ErrPoolClosed, "ErrPoolClosed"},
		{ErrOverlayClosed, "ErrOverlayClosed"}, {ErrBusy, "ErrBusy"}} {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	for _, e := range flat(err) {
		if name, ok := strings.CutPrefix(fmt.Sprintf("%T", e), "*sandbox."); ok {
			return name
		}
	}
	return "other"
}

// flat is the tree of an error, parents first.
func flat(err error) []error {
	list := []error{err}
	switch e := any(err).(type) { // each error by itself, not what it wraps
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			list = append(list, flat(inner)...)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			list = append(list, flat(inner)...)
		}
	}
	return list
}

// bounded cuts a list to what a record holds; total and sum are of the whole of it.
func bounded(list []string) (short []string, total int, sum string) {
	hash := sha256.New()
	room := maxAuditText
	short = []string{}
	for _, s := range list {
		total += len(s)
		hash.Write([]byte(s))
		hash.Write([]byte{0})
		if room > 0 && len(short) < maxAuditList {
			s = cut(s, room)
			room -= len(s)
			short = append(short, s)
		}
	}
	return short, total, hex.EncodeToString(hash.Sum(nil))
}

// cut shortens at the border of a rune.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
