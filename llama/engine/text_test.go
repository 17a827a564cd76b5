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

	stream := func(stops ...string) (shown string, stopped bool, used int) {
		s := textStream{vocab: v, stops: newStopMatcher(stops)}
		var b strings.Builder
		for _, token := range tokens {
			piece, n, stop, err := s.push([]llama.Token{token})
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.True(t, utf8.ValidString(piece), "%q", piece)
			b.WriteString(piece)
			used++
			if stop {
				return b.String(), true, used
			}
		}
		rest, stop := s.flush()
		b.WriteString(rest)
		return b.String(), stop, used
	}

	shown, stopped, _ := stream()
	require.Equal(t, text, shown)
	require.False(t, stopped)
	for _, stop := range []string{"日本", "語 👩", "😀", "😀 e", "→", "d", "d."} {
		shown, stopped, used := stream(stop)
		want, _, found := strings.Cut(text, stop)
		require.Equal(t, found, stopped, stop)
		require.Equal(t, want, shown, stop)
		// All at once is the same, and says which tokens were used.
		s := textStream{vocab: v, stops: newStopMatcher([]string{stop})}
		_, n, stopped, err := s.push(tokens)
		require.NoError(t, err)
		require.Equal(t, found, stopped)
		require.Equal(t, used, n)
	}

	t.Run("an unfinished character at the end", func(t *testing.T) {
		s := textStream{vocab: v}
		emoji, err := v.Tokenize("x😀", false, false)
		require.NoError(t, err)
		piece, _, _, err := s.push(emoji[:len(emoji)-1])
		require.NoError(t, err)
		require.Equal(t, "x", piece)
		rest, stopped := s.flush()
		require.False(t, stopped)
		require.NotEmpty(t, rest)
		require.Empty(t, strings.Trim(rest, "\uFFFD"))
	})
	t.Run("control tokens", func(t *testing.T) {
		end, err := v.Tokenize("<|im_end|>", false, true)
		require.NoError(t, err)
		require.Len(t, end, 1)
		hidden := textStream{vocab: v}
		piece, _, _, err := hidden.push(end)
		require.NoError(t, err)
		require.Empty(t, piece)
		shown := textStream{vocab: v, shown: map[llama.Token]bool{end[0]: true}}
		piece, _, _, err = shown.push(end)
		require.NoError(t, err)
		require.Equal(t, "<|im_end|>", piece)
	})
}
