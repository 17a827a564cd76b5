package server

import (
	"errors"
	"fmt"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

var errNoResult = errors.New("server: the engine ended an answer without a result")

// engineError translates the errors of llama and llama/engine. What the request
// caused is said in the library's words; what it did not is for the log.
func engineError(err error) *apiError {
	for _, caused := range []struct {
		target error
		code   string
	}{
		{llama.ErrInvalidGrammar, "invalid_grammar"},
		{llama.ErrInvalidSchema, "invalid_schema"},
		{llama.ErrInvalidRegex, "invalid_regex"},
		{llama.ErrGrammarBudget, "grammar_budget"},
		{llama.ErrGrammarRejected, "grammar_rejected"}, // a grammar at a dead end, or biases that leave no token
		{llama.ErrInvalidToken, "invalid_token"},
		{llama.ErrInvalidParam, "invalid_parameter"},
		{llama.ErrInvalidMessage, "invalid_message"},
		{llama.ErrChatTemplate, "chat_template"}, // it was usable when the engine began: it refuses these messages
	} {
		if errors.Is(err, caused.target) {
			return badRequest(caused.code, "%s", err)
		}
	}
	var (
		full    *llama.ErrContextFull
		text    *engine.ErrText
		invalid *engine.ErrInvalid
		died    *engine.ErrWorkerDied
	)
	switch {
	case errors.As(err, &text) && errors.As(err, &full):
		return badRequest("context_length_exceeded", "text %d has %d tokens, the most are %d: send less", text.Index, full.Have, full.Max)
	case errors.Is(err, llama.ErrUnsupported):
		return badRequest("unsupported", "the model that is loaded cannot do this: %s", err)
	case errors.As(err, &invalid):
		return badRequest("invalid_request", "%s", err)
	case errors.As(err, &full):
		return badRequest("context_length_exceeded", "the prompt has at least %d tokens, the context holds %d: send less", full.Have, full.Max)
	case errors.Is(err, llama.ErrNoChatTemplate):
		return badRequest("no_chat_template", "the model that is loaded has no chat template: POST /llama-cpp/ continues plain text with it")
	case errors.Is(err, engine.ErrBusy):
		return busy("too many requests are waiting for the model: try again in a second")
	case errors.As(err, &died):
		return workerDied(err)
	case errors.Is(err, engine.ErrClosed):
		return closing()
	default:
		return internal(fmt.Errorf("engine: %w", err))
	}
}
