package engine

import (
	"errors"
	"fmt"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

var (
	// ErrBusy says that MaxSequences requests run and MaxQueue wait already, or that
	// the request has waited for MaxWait. Nothing was computed; try again later.
	ErrBusy = errors.New("engine: the queue is full: try again later, or raise Params.MaxQueue")
	// ErrClosed says that the engine was closed before or during the request.
	ErrClosed = errors.New("engine: closed")
)

// ErrInvalid names the field of Params, Request or ChatRequest that cannot be
// used, and why. Nothing was computed.
type ErrInvalid struct {
	Field  string // for example "Request.MaxTokens"
	Reason string
}

func (e *ErrInvalid) Error() string {
	return fmt.Sprintf("engine: %s: %s", e.Field, e.Reason)
}

func invalid(field, format string, args ...any) error {
	return &ErrInvalid{Field: field, Reason: fmt.Sprintf(format, args...)}
}

var errEncoder = fmt.Errorf("engine: this model does not continue text; one that embeds or ranks is for Embed and Rerank: %w", llama.ErrUnsupported)

// ErrOutput says that the output of a finished request is not a value of the
// type that [GenerateInto] was asked for. Most often the output was cut: then
// FinishReason is "length" or "context", and a larger MaxTokens or NCtx helps.
type ErrOutput struct {
	Text         string // what the model wrote
	FinishReason FinishReason
	Err          error // the decoder's or the schema's complaint
}

func (e *ErrOutput) Error() string {
	return fmt.Sprintf("engine: the output (finish reason %q, %d bytes) is not a value of the wanted type: %v", e.FinishReason, len(e.Text), e.Err)
}

func (e *ErrOutput) Unwrap() error { return e.Err }
