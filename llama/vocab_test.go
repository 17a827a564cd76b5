package llama_test

import (
	"math"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

func TestVocab(t *testing.T) {
	v := testModel(t, "default").Vocab()
	require.Equal(t, 49152, v.NTokens())
	im := func(text string) llama.Token {
		toks, err := v.Tokenize(text, false, true)
		require.NoError(t, err)
		require.Len(t, toks, 1, text)
		return toks[0]
	}
	start, end := im("<|im_start|>"), im("<|im_end|>")
	require.Equal(t, start, v.BOS())
	require.Equal(t, end, v.EOS())
	require.True(t, v.IsEOG(end))
	require.True(t, v.IsControl(start))
	require.False(t, v.IsEOG(start))
	text, err := v.Text(end)
	require.NoError(t, err)
	require.Equal(t, "<|im_end|>", text)

	piece, err := v.AppendPiece([]byte("x"), end, true)
	require.NoError(t, err)
	require.Equal(t, "x<|im_end|>", string(piece))
	piece, err = v.AppendPiece([]byte("x"), end, false)
	require.NoError(t, err)
	require.Equal(t, "x", string(piece))

	for _, tok := range []llama.Token{-1, llama.NullToken, llama.Token(v.NTokens()), 1 << 30, -1 << 31} {
		_, err := v.AppendPiece(nil, tok, true)
		require.ErrorIs(t, err, llama.ErrInvalidToken)
		_, err = v.Text(tok)
		require.ErrorIs(t, err, llama.ErrInvalidToken)
		_, err = v.Detokenize([]llama.Token{1, tok}, false, true)
		require.ErrorIs(t, err, llama.ErrInvalidToken)
		require.False(t, v.IsEOG(tok))
		require.False(t, v.IsControl(tok))
	}
}

// The pieces are read from llama.cpp in one go; they must be what it gives for each token.
func TestPiecesAreDetokenized(t *testing.T) {
	v := testModel(t, "default").Vocab()
	for tok := range llama.Token(v.NTokens()) {
		for _, special := range []bool{true, false} {
			piece, err := v.AppendPiece(nil, tok, special)
			require.NoError(t, err)
			want, err := v.Detokenize([]llama.Token{tok}, false, special)
			require.NoError(t, err)
			if string(piece) != want {
				t.Fatalf("token %d, special=%v: %q, llama_detokenize gives %q", tok, special, piece, want)
			}
		}
	}
}

func TestTokenizeGivesTheTextBack(t *testing.T) {
	for _, ref := range []string{"default", "gemma3-270m"} {
		v := testModel(t, ref).Vocab()
		for name, text := range oracleTexts {
			if !utf8.ValidString(text) {
				continue // BPE writes U+FFFD
			}
			t.Run(ref+"/"+name, func(t *testing.T) {
				for _, special := range []bool{true, false} {
					toks, err := v.Tokenize(text, true, special)
					require.NoError(t, err)
					back, err := v.Detokenize(toks, true, true)
					require.NoError(t, err)
					require.Equal(t, text, back)
				}
			})
		}
	}
}

func TestTokenizeNUL(t *testing.T) {
	v := testModel(t, "default").Vocab()
	with, err := v.Tokenize("a\x00b", false, false)
	require.NoError(t, err)
	without, err := v.Tokenize("a", false, false)
	require.NoError(t, err)
	require.Greater(t, len(with), len(without), "a NUL byte does not end the text")
}

func TestVocabIsSafeForManyGoroutines(t *testing.T) {
	v := fixtureModel(t).Vocab()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				toks, err := v.Tokenize("hello <|im_end|> world", true, true)
				if err != nil || len(toks) == 0 || !v.IsControl(1) {
					t.Error(err, toks)
				}
				if _, err := v.AppendPiece(nil, toks[0], true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestModelWithoutVocab(t *testing.T) {
	f := fixture.Llama(1).With("tokenizer.ggml.model", "no_vocab")
	m, err := llama.LoadModel(t.Context(), f.Write(t), llama.ModelParams{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	v := m.Vocab()
	_, tokenize := v.Tokenize("a", true, true)
	_, detokenize := v.Detokenize([]llama.Token{1}, true, true)
	_, piece := v.AppendPiece(nil, 1, true)
	_, text := v.Text(1)
	_, sampler := llama.NewSampler(m, llama.SamplerParams{})
	_, template := llama.NewChatTemplate(m, "{{ messages[0].content }}")
	for i, err := range []error{tokenize, detokenize, piece, text, sampler, template, llama.CheckGrammar(m, `root ::= "a"`)} {
		require.ErrorIs(t, err, llama.ErrNoVocab, i)
	}
	require.False(t, v.IsEOG(1))
	require.False(t, v.IsControl(1))
	c := newContext(t, m, llama.ContextParams{NCtx: 64})
	require.NoError(t, c.Decode(batchOf(t, []llama.Token{1, 2, 3}, 0, 0)), "it still computes")
}

func TestTextDecoder(t *testing.T) {
	var d llama.TextDecoder
	require.Equal(t, "a", d.Push([]byte("a\xf0\x9f")))
	require.Equal(t, "", d.Push([]byte("\xa6")))
	require.Equal(t, "🦊b", d.Push([]byte("\x8ab")))
	require.Equal(t, "", d.Flush())
	require.Equal(t, "\uFFFD", d.Push([]byte("\xe2\x28")[:1])+d.Flush())
	require.Equal(t, "\uFFFD(", d.Push([]byte("\xe2\x28")))
	require.Equal(t, "", d.Push([]byte("\xe2\x82")))
	require.Equal(t, "\uFFFD\uFFFD", d.Flush())
	require.Equal(t, "", d.Flush())
}

// However bytes are cut into pieces, the text is the same: each byte of no rune gives U+FFFD.
func FuzzTextDecoder(f *testing.F) {
	for _, text := range oracleTexts {
		f.Add([]byte(text), uint8(3))
	}
	f.Add([]byte("\xf0\x9f\xa6\x8a\xf0\x9f\xe2\x82"), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		var d llama.TextDecoder
		var got strings.Builder
		for rest := data; len(rest) > 0; {
			n := min(1+int(step)%5, len(rest))
			got.WriteString(d.Push(rest[:n]))
			rest = rest[n:]
			step = step*31 + 7
		}
		got.WriteString(d.Flush())
		if want := string([]rune(string(data))); got.String() != want {
			t.Fatalf("%q, want %q", got.String(), want)
		}
	})
}

func TestMaxPieceLen(t *testing.T) {
	v := fixtureModel(t).Vocab()
	require.Equal(t, len("<|im_start|>"), v.MaxPieceLen())
}

func TestDetokenizeRefusesWhatCannotBeCounted(t *testing.T) {
	v := fixtureModel(t).Vocab()
	_, err := v.Detokenize(make([]llama.Token, math.MaxInt32/(8*v.MaxPieceLen())+1), false, false)
	require.ErrorIs(t, err, llama.ErrInvalidParam)
}

// TestVocabOnly: tokens, templates and grammars need no tensors; a context does.
func TestVocabOnly(t *testing.T) {
	whole := testModel(t, "")
	m, err := llama.LoadModel(t.Context(), whole.Path(), llama.ModelParams{VocabOnly: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	want, err := whole.Vocab().Tokenize("Hello, world", true, false)
	require.NoError(t, err)
	got, err := m.Vocab().Tokenize("Hello, world", true, false)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.NoError(t, llama.CheckGrammar(m, `root ::= "a"`))
	_, err = llama.NewContext(m, llama.ContextParams{NCtx: 64})
	require.ErrorIs(t, err, llama.ErrUnsupported)

	// What one process renders, another one can generate from.
	ct, err := llama.NewChatTemplate(m, "")
	require.NoError(t, err)
	defer func() { require.NoError(t, ct.Close()) }()
	prompt, err := ct.Apply(llama.ChatTemplateRequest{Messages: []llama.ChatMessage{{Role: "user", Content: "hi"}}, Schema: []byte(`{"const":true}`), AddGenerationPrompt: true})
	require.NoError(t, err)
	b, err := prompt.MarshalBinary()
	require.NoError(t, err)
	var crossed llama.ChatPrompt
	require.NoError(t, crossed.UnmarshalBinary(b))
	require.Equal(t, *prompt, crossed, "with its unexported fields")
	require.ErrorIs(t, crossed.UnmarshalBinary([]byte("{")), llama.ErrInvalidParam)
}
