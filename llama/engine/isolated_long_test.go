//go:build long

package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// TestStuckGrammar: a grammar for which one token takes for ever, since each of its
// characters doubles the ways to go on, ends with the worker; its request is told why.
func TestStuckGrammar(t *testing.T) {
	m, err := defaultModel()
	require.NoError(t, err)
	dashes, longest := llama.Token(0), 0
	for token := range llama.Token(m.Vocab().NTokens()) {
		piece, err := m.Vocab().AppendPiece(nil, token, false)
		require.NoError(t, err)
		if strings.Trim(string(piece), "-") == "" && len(piece) > longest {
			dashes, longest = token, len(piece)
		}
	}
	require.Greater(t, longest, 15)
	e := isolated(t, engine.Params{MaxSequences: 2})
	neighbour := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		first := true
		for _, err := range e.Generate(t.Context(), endless()) {
			if err != nil {
				neighbour <- err
			} else if first {
				first = false
				close(begun)
			}
		}
	}()
	<-begun
	begin := time.Now()
	_, err = collect(t, t.Context(), e, engine.Request{
		Prompt: "x", Grammar: "root ::= a\na ::= \"-\" a \"y\" | \"-\" a \"z\" | \"-\"",
		Sampling: &llama.SamplerParams{LogitBias: map[llama.Token]float32{dashes: 1000}},
	})
	require.ErrorIs(t, err, llama.ErrGrammarBudget)
	t.Log(time.Since(begin), err)
	require.ErrorAs(t, <-neighbour, new(*engine.ErrWorkerDied))
	generate(t, e, engine.Request{Prompt: france, MaxTokens: 2})
}
