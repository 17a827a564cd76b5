package main

import (
	"errors"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// modelFailure sorts the errors of finding and loading a model. Their texts say what
// to do; a hint is added where this program has something better to offer.
func modelFailure(err error) error {
	if invalidArgument(err) {
		return &failure{code: exitUsage, err: err}
	}
	if errors.As(err, new(*failure)) { // the preflight's
		return err
	}
	f := &failure{code: exitModel, err: err}
	if errors.Is(err, hub.ErrModelFormat) || errors.Is(err, llama.ErrModelFormat) {
		f.hint = "'lm-sandbox model pull' brings a small model that works"
	}
	return f
}

// requestFailure sorts the errors of a request to the engine.
func requestFailure(err error) error {
	var full *llama.ErrContextFull
	switch {
	case invalidArgument(err):
		return &failure{code: exitUsage, err: err}
	case errors.As(err, &full):
		return &failure{code: exitFailure, err: err, hint: "NCtx is --ctx-size, as large as the model was trained for if it is not given"}
	}
	return err
}

// invalidArgument reports whether err is about a value that a flag gave.
func invalidArgument(err error) bool {
	var invalid *engine.ErrInvalid
	return errors.As(err, &invalid) || errors.Is(err, llama.ErrInvalidParam) ||
		errors.Is(err, llama.ErrInvalidSchema) || errors.Is(err, llama.ErrInvalidGrammar)
}
