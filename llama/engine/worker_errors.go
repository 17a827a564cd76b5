package engine

import (
	"context"
	"errors"
	"io/fs"
	"reflect"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Errors cross as their text with all that errors.Is and errors.As find in them.

var wireSentinels = []error{
	ErrBusy, ErrClosed, ErrNoWorker,
	llama.ErrClosed, llama.ErrInUse, llama.ErrModelFormat, llama.ErrAdapter, llama.ErrState, llama.ErrNoVocab, llama.ErrNoChatTemplate, llama.ErrChatTemplate, llama.ErrInvalidToken,
	llama.ErrInvalidParam, llama.ErrInvalidGrammar, llama.ErrInvalidRegex, llama.ErrInvalidSchema, llama.ErrInvalidMessage, llama.ErrChatParse, llama.ErrUnsupported,
	llama.ErrNoLogits, llama.ErrGrammarRejected, llama.ErrGrammarBudget, llama.ErrNoKVSlot, llama.ErrAborted, llama.ErrInvalidBatch, llama.ErrFatal,
	context.Canceled, context.DeadlineExceeded,
	fs.ErrNotExist, fs.ErrPermission,
	errPreflight,
}

// wireTypes are the types of errors with fields.
var wireTypes = []reflect.Type{
	reflect.TypeFor[*ErrInvalid](),
	reflect.TypeFor[*ErrWorkerDied](),
	reflect.TypeFor[*llama.ErrContextFull](),
	reflect.TypeFor[*llama.ErrInsufficientMemory](),
	reflect.TypeFor[*llama.DecodeError](),
	reflect.TypeFor[*llama.PlaceError](),
}

// wireError is an error on its way. The zero value is none.
type wireError struct {
	Text      string
	Whole     bool // the one cause is the error itself
	Sentinels []uint
	Types     []wireTyped
}

type wireTyped struct {
	Index uint
	Value []byte
}

func newWireError(err error) (w wireError) {
	if err == nil {
		return w
	}
	w.Text = err.Error()
	for i, t := range wireTypes {
		target := reflect.New(t)
		if !errors.As(err, target.Interface()) {
			continue
		}
		value, codec := encodeWire(target.Elem().Elem().Interface(), t.String())
		if codec == nil {
			w.Types = append(w.Types, wireTyped{uint(i), value})
			w.Whole = w.Whole || any(err) == target.Elem().Interface()
		}
	}
	for i, s := range wireSentinels {
		if errors.Is(err, s) {
			w.Sentinels = append(w.Sentinels, uint(i))
			w.Whole = w.Whole || err == s //nolint:errorlint // the thing itself, not what it wraps
		}
	}
	return w
}

// err is the error that newWireError was given, as far as its callers can tell.
func (w wireError) err() error {
	var causes []error
	for _, t := range w.Types {
		if t.Index >= uint(len(wireTypes)) {
			return errWire
		}
		target := reflect.New(wireTypes[t.Index].Elem())
		r := wireReader{b: t.Value}
		if r.read(target.Elem()); r.err != nil {
			return errWire
		}
		causes = append(causes, target.Interface().(error))
	}
	for _, i := range w.Sentinels {
		if i >= uint(len(wireSentinels)) {
			return errWire
		}
		causes = append(causes, wireSentinels[i])
	}
	switch {
	case w.Text == "" && len(causes) == 0:
		return nil
	case w.Whole && len(causes) > 0:
		return causes[0]
	}
	return &crossedError{text: w.Text, causes: causes}
}

// crossedError is an error that another process had.
type crossedError struct {
	text   string
	causes []error
}

func (e *crossedError) Error() string   { return e.text }
func (e *crossedError) Unwrap() []error { return e.causes }
