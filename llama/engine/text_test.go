package engine

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// TestTextStream: characters that several tokens make up come out whole, and
// stop strings are found across tokens and characters.
func TestTextStream(t *testing.T) {
	file, err := hub.Pull(context.Background(), "", hub.Options{})
	require.NoError(t, err)
	m, err := llama.LoadModel(context.Background(), file.Path, llama.ModelParams{NGPULayers: llama.NoLayers})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	v := m.Vocab()

	const text = "naïve 日本語 👩‍👩‍👧 e\u0301 \u200b→ 😀😀 end"
	tokens, err := v.Tokenize(text, false, false)
	require.NoError(t, err)
	require.Greater(t, len(tokens), utf8.RuneCountInString("日本語👩‍👩‍👧😀😀"), "characters are split over tokens")

	stream := func(stops ...string) (shown string, stopped bool) {
		s := textStream{vocab: v, stops: newStopMatcher(stops)}
		var b strings.Builder
		for _, token := range tokens {
			piece, stop, err := s.push(nil, token)
			require.NoError(t, err)
			require.True(t, utf8.Valid(piece), "%q", piece)
			b.Write(piece)
			if stop {
				return b.String(), true
			}
		}
		rest, stop := s.flush(nil)
		b.Write(rest)
		return b.String(), stop
	}

	shown, stopped := stream()
	require.Equal(t, text, shown)
	require.False(t, stopped)
	for _, stop := range []string{"日本", "語 👩", "😀", "😀 e", "→", "d", "d."} {
		shown, stopped := stream(stop)
		want, _, found := strings.Cut(text, stop)
		require.Equal(t, found, stopped, stop)
		require.Equal(t, want, shown, stop)
	}

	t.Run("an unfinished character at the end", func(t *testing.T) {
		s := textStream{vocab: v}
		emoji, err := v.Tokenize("x😀", false, false)
		require.NoError(t, err)
		var begun strings.Builder
		for _, token := range emoji[:len(emoji)-1] {
			piece, _, err := s.push(nil, token)
			require.NoError(t, err)
			begun.Write(piece)
		}
		require.Equal(t, "x", begun.String())
		rest, stopped := s.flush(nil)
		require.False(t, stopped)
		require.NotEmpty(t, rest)
		require.Empty(t, strings.Trim(string(rest), "\uFFFD"))
	})
	t.Run("control tokens", func(t *testing.T) {
		end, err := v.Tokenize("<|im_end|>", false, true)
		require.NoError(t, err)
		require.Len(t, end, 1)
		hidden := textStream{vocab: v}
		piece, _, err := hidden.push(nil, end[0])
		require.NoError(t, err)
		require.Empty(t, piece)
		shown := textStream{vocab: v, shown: map[llama.Token]bool{end[0]: true}}
		piece, _, err = shown.push(nil, end[0])
		require.NoError(t, err)
		require.Equal(t, "<|im_end|>", string(piece))
	})
}
