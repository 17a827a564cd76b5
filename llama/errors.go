package llama

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// Sentinels for [errors.Is]. An error of this package is one of them with a text of its own, or one of the types below.
var (
	ErrClosed          = errors.New("llama: use after Close")
	ErrInUse           = errors.New("llama: still in use")
	ErrModelFormat     = errors.New("llama: not a usable GGUF model")
	ErrAdapter         = errors.New("llama: not an adapter for this model")
	ErrState           = errors.New("llama: this state cannot be restored here")
	ErrNoVocab         = errors.New("llama: the model has no vocabulary")
	ErrNoChatTemplate  = errors.New("llama: the model has no chat template")
	ErrChatTemplate    = errors.New("llama: the chat template cannot be used")
	ErrInvalidToken    = errors.New("llama: token outside the vocabulary")
	ErrInvalidParam    = errors.New("llama: invalid parameter")
	ErrInvalidGrammar  = errors.New("llama: invalid grammar")
	ErrInvalidRegex    = errors.New("llama: invalid regular expression")
	ErrInvalidSchema   = errors.New("llama: invalid JSON schema")
	ErrInvalidMessage  = errors.New("llama: invalid chat message")
	ErrChatParse       = errors.New("llama: the text does not have the chat template's format")
	ErrUnsupported     = errors.New("llama: not supported")
	ErrNoLogits        = errors.New("llama: no logits at this index")
	ErrGrammarBudget   = errors.New("llama: the grammar takes too long")
	ErrGrammarRejected = errors.New("llama: the grammar does not allow this token")

	// What a [DecodeError] is, by its code.
	ErrNoKVSlot     = errors.New("llama: no free KV cells for the batch")
	ErrAborted      = errors.New("llama: decode aborted")
	ErrInvalidBatch = errors.New("llama: invalid batch")
	ErrFatal        = errors.New("llama: decode failed")
)

// ErrContextFull says that a request needs more positions than the context has: Have tokens, where Max are possible.
type ErrContextFull struct{ Have, Max int }

func (e *ErrContextFull) Error() string {
	return fmt.Sprintf("llama: %d tokens do not fit the context of %d: shorten the prompt or raise NCtx", e.Have, e.Max)
}

// ErrInsufficientMemory says that a model or a context does not fit: as it was computed, before anything was allocated, or
// because llama.cpp could not allocate.
type ErrInsufficientMemory struct {
	What       string // what was to be made, such as "model" or "context"
	Device     string // ggml's name of the device that is too small, such as CUDA0 or CPU; "" where llama.cpp did not say
	Need, Free uint64 // bytes on that device; 0 where it is not known
	Text       string // llama.cpp's own words, or what to do
}

func (e *ErrInsufficientMemory) Error() string {
	if e.Device == "" {
		return fmt.Sprintf("llama: not enough memory for the %s: %s", e.What, e.Text)
	}
	return fmt.Sprintf("llama: not enough memory for the %s: it needs %s on %s, of which %s are free: %s",
		e.What, byteText(e.Need), e.Device, byteText(e.Free), e.Text)
}

// byteText gives a size as it is read best: 1023 B, 1.5 GiB.
func byteText(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n)/1024, "KMGTPE"
	for f >= 1023.95 && len(units) > 1 {
		f, units = f/1024, units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", f, units[0])
}

// DecodeError is a failed decode.
//
//	 1  ErrNoKVSlot      nothing changed; free sequences or send a smaller batch
//	 2  ErrAborted       ubatches done before the abort stay in memory: compare Memory.PosMax
//	-1  ErrInvalidBatch  nothing changed
//	<-1 ErrFatal         as 2
type DecodeError struct {
	Code int
	Text string
}

func (e *DecodeError) Error() string {
	s := e.kind().Error()
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

func (e *DecodeError) kind() error {
	switch e.Code {
	case 1:
		return ErrNoKVSlot
	case 2:
		return ErrAborted
	case -1:
		return ErrInvalidBatch
	default:
		return ErrFatal
	}
}

// Is makes errors.Is(err, ErrAborted) and the like work.
func (e *DecodeError) Is(target error) bool { return target == e.kind() }

// detailError is a sentinel with a text of its own and, where there is one, a cause.
type detailError struct {
	kind, cause error
	text        string
}

func (e *detailError) Error() string { return "llama: " + e.text }

func (e *detailError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// errorf makes an error that is kind for errors.Is; an error among args is its cause too.
func errorf(kind error, format string, args ...any) error {
	e := &detailError{kind: kind, text: fmt.Sprintf(format, args...)}
	for _, a := range args {
		if err, ok := a.(error); ok {
			e.cause = err
		}
	}
	return e
}

// within says where in a request an error of this package is.
func within(err error, format string, args ...any) error {
	return &detailError{kind: err, text: fmt.Sprintf(format, args...) + ": " + strings.TrimPrefix(err.Error(), "llama: ")}
}

// fromNative gives a failed call of the native side its public shape: kind, except for what the code says itself.
func fromNative(err error, kind error, what string) error {
	if err == nil {
		return nil
	}
	var ne *native.Error
	if !errors.As(err, &ne) {
		return fmt.Errorf("llama: %s: %w", what, err)
	}
	switch ne.Code {
	case native.CodeNoCgo:
		return errorf(ErrUnsupported, "%s", ne.Text)
	case native.CodeUnsupported:
		kind = ErrUnsupported
	case native.CodeMemory:
		return &ErrInsufficientMemory{What: what, Text: ne.Text}
	case native.CodeBudget:
		kind = ErrGrammarBudget
	case native.CodeGrammar:
		if !errors.Is(kind, ErrInvalidGrammar) {
			kind = ErrGrammarRejected
		}
	}
	return errorf(kind, "%s: %s", what, ne.Text)
}

func invalidBatch(format string, args ...any) error {
	return &DecodeError{Code: -1, Text: fmt.Sprintf(format, args...)}
}
