package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

func TestInvalidRequests(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256, MaxSequences: 1})
	var invalid *engine.ErrInvalid
	tests := []struct {
		name  string
		r     engine.Request
		field string
		is    error
	}{
		{"no prompt", engine.Request{Tokens: []llama.Token{}}, "Request.Prompt", nil},
		{"two prompts", engine.Request{Prompt: "x", Tokens: []llama.Token{1}}, "Request.Tokens", nil},
		{"negative", engine.Request{Prompt: "x", MaxTokens: -1}, "Request.MaxTokens", nil},
		{"empty stop", engine.Request{Prompt: "x", Stop: []string{"a", ""}}, "Request.Stop[1]", nil},
		{"bad stop", engine.Request{Prompt: "x", Stop: []string{"\xff"}}, "Request.Stop[0]", nil},
		{"many stops", engine.Request{Prompt: "x", Stop: make([]string, 1000)}, "Request.Stop", nil},
		{"two constraints", engine.Request{Prompt: "x", Grammar: `root ::= "a"`, Schema: []byte("{}")}, "Request.Schema", nil},
		{"token", engine.Request{Tokens: []llama.Token{1 << 30}}, "", llama.ErrInvalidToken},
		{"negative token", engine.Request{Tokens: []llama.Token{-1}}, "", llama.ErrInvalidToken},
		{"grammar", engine.Request{Prompt: "x", Grammar: "root ::= ("}, "", llama.ErrInvalidGrammar},
		{"schema", engine.Request{Prompt: "x", Schema: []byte(`{"type":`)}, "", llama.ErrInvalidSchema},
		{"sampling", engine.Request{Prompt: "x", Sampling: &llama.SamplerParams{TopP: -1}}, "", llama.ErrInvalidParam},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := collect(t, context.Background(), e, tt.r)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			} else {
				require.True(t, errors.As(err, &invalid), "%v", err)
				require.Equal(t, tt.field, invalid.Field)
			}
		})
	}
	_, err := collectChat(t, e, engine.ChatRequest{Messages: user("x"), MaxTokens: -1})
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, "ChatRequest.MaxTokens", invalid.Field)
	_, err = collectChat(t, e, engine.ChatRequest{})
	require.ErrorIs(t, err, llama.ErrInvalidMessage)
	requireIdle(t, e)
	require.Zero(t, e.Stats().Steps)

	m := e.Model()
	for _, p := range []engine.Params{{MaxSequences: -1}, {MaxSequences: 257}, {MaxQueue: -1}, {NBatch: -1}, {NUBatch: 1 << 30}, {NCtx: 2}, {NCtx: -1}} {
		_, err := engine.New(m, p)
		require.ErrorAs(t, err, &invalid, "%+v", p)
	}
}
