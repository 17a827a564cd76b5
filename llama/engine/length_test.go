package engine_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// TestTooLongTextIsRefusedBeforeItIsTokenised: tokenising takes much longer
// than linear time, on a text like this one minutes.
func TestTooLongTextIsRefusedBeforeItIsTokenised(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256, MaxSequences: 1})
	text := strings.Repeat("<|im_end|>", 1<<20)
	refused := func(name string, request func() error) {
		t.Run(name, func(t *testing.T) {
			done := make(chan error, 1)
			go func() { done <- request() }()
			select {
			case err := <-done:
				var full *llama.ErrContextFull
				require.ErrorAs(t, err, &full)
				require.Greater(t, full.Have, full.Max)
				require.Equal(t, e.Stats().Cells, full.Max)
			case <-time.After(time.Minute):
				require.FailNow(t, "it is being tokenised")
			}
		})
	}
	refused("generate", func() error {
		_, err := collect(t, context.Background(), e, engine.Request{Prompt: text})
		return err
	})
	refused("chat", func() error {
		_, err := collectChat(t, e, engine.ChatRequest{Messages: user(text)})
		return err
	})
	refused("count", func() error {
		_, err := e.CountTokens(context.Background(), engine.ChatRequest{Messages: append(user("hi"), user(text)...)})
		return err
	})
	requireIdle(t, e)

	t.Run("but what may fit is not", func(t *testing.T) {
		// The longest token of the vocabulary, as often as the context holds it.
		v := e.Model().Vocab()
		longest := ""
		for id := range llama.Token(v.NTokens()) {
			piece, err := v.AppendPiece(nil, id, false)
			require.NoError(t, err)
			if len(piece) > len(longest) {
				longest = string(piece)
			}
		}
		a := generate(t, e, engine.Request{Prompt: strings.Repeat(longest, e.Stats().Cells), MaxTokens: 1, Sampling: greedy()})
		require.LessOrEqual(t, a.result.Usage.Prompt, e.Stats().Cells)
		t.Logf("%q", longest)
	})
}
