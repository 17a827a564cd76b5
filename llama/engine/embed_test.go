package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

func farthest(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	far := 0.0
	for i := range a {
		d := math.Abs(float64(a[i]) - float64(b[i]))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		far = max(far, d)
	}
	return far
}

// texts are of very different lengths, so that batches hold many, and parts of long ones.
func embedTexts(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("text %d: %s", i, strings.Repeat("how now, brown cow? ", i%7*(i%3)))
	}
	return out
}

func embedFixtures() map[string]*fixture.File {
	return map[string]*fixture.File{
		"llama": fixture.Llama(1), "moe": fixture.MoE(), "gemma3": fixture.Gemma3(), "mamba": fixture.Mamba(),
		"lfm2": fixture.LFM2(), "jamba": fixture.Jamba(), "bert": fixture.BERT(fixture.PoolingCLS),
	}
}

// Texts that share batches get what they get alone, from the model directly.
func TestEmbedIsThatOfTheTextAlone(t *testing.T) {
	texts := embedTexts(30)
	for name, f := range embedFixtures() {
		t.Run(name, func(t *testing.T) {
			e := openFixture(t, f, engine.Params{})
			m := e.Model()
			c, err := llama.NewContext(m, llama.ContextParams{Embeddings: true, PoolingType: llama.PoolingNone, NThreads: 1, FlashAttn: llama.FlashAttnOff})
			require.NoError(t, err)
			defer c.Close()
			alone := make([][]float32, len(texts))
			tokens := 0
			for i, text := range texts {
				toks, err := m.Vocab().Tokenize(text, true, false)
				require.NoError(t, err)
				b := llama.NewBatch(len(toks))
				for p, tok := range toks {
					_, err := b.Add(tok, llama.Pos(p), 0, true)
					require.NoError(t, err)
				}
				require.NoError(t, c.Memory().Clear())
				require.NoError(t, c.Decode(b))
				alone[i] = make([]float32, len(toks)*fixture.NEmbd)
				require.NoError(t, c.Embeddings(alone[i], 0, len(toks)))
				tokens += len(toks)
			}
			for _, p := range []llama.PoolingType{llama.PoolingNone, llama.PoolingMean, llama.PoolingCLS, llama.PoolingLast} {
				var usage engine.Usage
				got, err := e.Embed(t.Context(), texts, engine.EmbedOptions{Pooling: p, Norm: engine.NormNone, Usage: &usage})
				require.NoError(t, err)
				require.Equal(t, engine.Usage{Prompt: tokens, Computed: tokens}, usage)
				for i := range texts {
					require.Less(t, farthest(got[i], pooled(alone[i], p)), 1e-3, "%v of text %d", p, i)
				}
			}
		})
	}
}

func pooled(rows []float32, p llama.PoolingType) []float32 {
	const w = fixture.NEmbd
	switch p {
	case llama.PoolingNone:
		return rows
	case llama.PoolingCLS:
		return rows[:w]
	case llama.PoolingLast:
		return rows[len(rows)-w:]
	}
	mean := make([]float32, w)
	for i, x := range rows {
		mean[i%w] += x / float32(len(rows)/w)
	}
	return mean
}

func TestEmbedPoolingAndNorm(t *testing.T) {
	embed := func(e *engine.Engine, o engine.EmbedOptions) []float32 {
		out, err := e.Embed(t.Context(), []string{"hello, you"}, o)
		require.NoError(t, err)
		return out[0]
	}
	llamaEngine := openFixture(t, fixture.Llama(1), engine.Params{})
	bert := openFixture(t, fixture.BERT(fixture.PoolingCLS), engine.Params{})
	require.Equal(t, embed(llamaEngine, engine.EmbedOptions{Pooling: llama.PoolingMean}), embed(llamaEngine, engine.EmbedOptions{}))
	require.Equal(t, embed(bert, engine.EmbedOptions{Pooling: llama.PoolingCLS}), embed(bert, engine.EmbedOptions{}))

	raw := embed(bert, engine.EmbedOptions{Norm: engine.NormNone})
	var l1, l2, most float64
	for _, x := range raw {
		l1, l2, most = l1+math.Abs(float64(x)), l2+float64(x)*float64(x), max(most, math.Abs(float64(x)))
	}
	for norm, by := range map[engine.Norm]float64{engine.NormL2: math.Sqrt(l2), engine.NormL1: l1, engine.NormMax: most / 32760} {
		for i, x := range embed(bert, engine.EmbedOptions{Norm: norm}) {
			require.InEpsilon(t, float64(raw[i])/by, x, 1e-5)
		}
	}
	for _, o := range []engine.EmbedOptions{{Pooling: llama.PoolingRank}, {Pooling: -1}, {Norm: 9}, {Norm: -1}} {
		_, err := bert.Embed(t.Context(), []string{"x"}, o)
		require.ErrorAs(t, err, new(*engine.ErrInvalid))
	}
}

func TestEmbedRefusesBeforeComputing(t *testing.T) {
	e := openFixture(t, fixture.Llama(1), engine.Params{NCtxEmbed: 40})
	_, err := e.Embed(t.Context(), []string{"short", strings.Repeat("long ", 20)}, engine.EmbedOptions{})
	var text *engine.ErrText
	require.ErrorAs(t, err, &text)
	require.Equal(t, 1, text.Index)
	var full *llama.ErrContextFull
	require.ErrorAs(t, err, &full)
	require.Equal(t, llama.ErrContextFull{Have: 101, Max: 40}, *full)

	_, err = e.EmbedTokens(t.Context(), [][]llama.Token{{1, 2}, {}}, engine.EmbedOptions{})
	require.ErrorAs(t, err, &text)
	require.Equal(t, 1, text.Index)
	_, err = e.EmbedTokens(t.Context(), [][]llama.Token{{1, 100000}}, engine.EmbedOptions{})
	require.ErrorIs(t, err, llama.ErrInvalidToken)
	out, err := e.Embed(t.Context(), nil, engine.EmbedOptions{})
	require.NoError(t, err)
	require.Empty(t, out)
	_, err = e.Rerank(t.Context(), "q", []string{"d"}, engine.RerankOptions{})
	require.ErrorIs(t, err, llama.ErrUnsupported)
	_, err = engine.Open(t.Context(), fixture.T5().Write(t), engine.Params{})
	require.ErrorIs(t, err, llama.ErrUnsupported)
	_, err = engine.Open(t.Context(), fixture.Llama(1).Write(t), engine.Params{NCtxEmbed: -1})
	require.ErrorAs(t, err, new(*engine.ErrInvalid))
}

// A model that only embeds gives everything else a typed error.
func TestEmbedOnlyModel(t *testing.T) {
	e := openFixture(t, fixture.BERT(fixture.PoolingMean), engine.Params{})
	for _, r := range []engine.Request{{Prompt: "hello"}, {Prompt: "hello", ContextShift: true}} {
		for _, err := range e.Generate(t.Context(), r) {
			require.ErrorIs(t, err, llama.ErrUnsupported)
		}
	}
	for _, err := range e.Chat(t.Context(), engine.ChatRequest{Messages: []llama.ChatMessage{{Role: "user", Content: "hello"}}}) {
		require.Error(t, err)
	}
	_ = e.Stats()
	_, err := e.Embed(t.Context(), []string{strings.Repeat("a ", fixture.NCtx-2), strings.Repeat("a ", 30)}, engine.EmbedOptions{})
	require.NoError(t, err, "as long as the model's positions")
	_, err = e.Embed(t.Context(), []string{strings.Repeat("a ", fixture.NCtx-1)}, engine.EmbedOptions{})
	require.ErrorAs(t, err, new(*llama.ErrContextFull))
}

// Simultaneous callers get their own texts, cancelled ones their error at once, and Close ends the rest.
func TestEmbedManyCallers(t *testing.T) {
	for name, f := range map[string]*fixture.File{"llama": fixture.Llama(1), "bert": fixture.BERT(fixture.PoolingMean), "mamba": fixture.Mamba()} {
		t.Run(name, func(t *testing.T) {
			e := openFixture(t, f, engine.Params{MaxSequences: 2, MaxQueue: 100})
			texts := embedTexts(20)
			want, err := e.Embed(t.Context(), texts, engine.EmbedOptions{})
			require.NoError(t, err)
			var wg sync.WaitGroup
			for caller := range 12 {
				wg.Go(func() {
					for round := range 5 {
						mine := texts[caller : caller+5]
						ctx, cancel := context.WithCancel(t.Context())
						if (caller+round)%3 == 0 {
							time.AfterFunc(time.Duration(caller*100)*time.Microsecond, cancel)
						}
						got, err := e.Embed(ctx, mine, engine.EmbedOptions{})
						if err != nil {
							if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
								t.Errorf("%v, its context: %v", err, ctx.Err())
							}
						} else {
							for i := range mine {
								if far := farthest(got[i], want[caller+i]); far > 1e-3 {
									t.Errorf("caller %d: text %d is off by %v", caller, i, far)
								}
							}
						}
						cancel()
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestEmbedEndsWithClose(t *testing.T) {
	e, err := engine.Open(t.Context(), fixture.Llama(1).Write(t), engine.Params{NThreads: 1, MaxSequences: 2})
	require.NoError(t, err)
	_, err = e.Embed(t.Context(), []string{"warm"}, engine.EmbedOptions{})
	require.NoError(t, err)
	errs := make(chan error, 4)
	texts := make([]string, 5000)
	for i := range texts {
		texts[i] = strings.Repeat("x", 300)
	}
	for range cap(errs) {
		go func() {
			_, err := e.Embed(context.Background(), texts, engine.EmbedOptions{})
			errs <- err
		}()
	}
	time.Sleep(20 * time.Millisecond) // they tokenise, wait or compute: Close may come at any time
	require.NoError(t, e.Close())
	for range cap(errs) {
		require.ErrorIs(t, <-errs, engine.ErrClosed)
	}
	_, err = e.Embed(t.Context(), texts, engine.EmbedOptions{})
	require.ErrorIs(t, err, engine.ErrClosed)
}

func TestRerank(t *testing.T) {
	e := openFixture(t, fixture.Reranker(), engine.Params{})
	docs := []string{"a cow", "brown cows are brown", "the sky", "", "how now?"}
	var usage engine.Usage
	all, err := e.Rerank(t.Context(), "which cow?", docs, engine.RerankOptions{Usage: &usage})
	require.NoError(t, err)
	require.Len(t, all, len(docs))
	require.Positive(t, usage.Prompt)
	seen := map[int]bool{}
	for i, s := range all {
		seen[s.Index] = true
		require.True(t, i == 0 || all[i-1].Score >= s.Score)
	}
	require.Len(t, seen, len(docs))
	two, err := e.Rerank(t.Context(), "which cow?", docs, engine.RerankOptions{TopN: 2})
	require.NoError(t, err)
	require.Equal(t, all[:2], two)
	one, err := e.Rerank(t.Context(), "which cow?", docs[2:3], engine.RerankOptions{})
	require.NoError(t, err)
	for _, s := range all {
		if s.Index == 2 {
			require.InDelta(t, s.Score, one[0].Score, 1e-4)
		}
	}
	_, err = e.Rerank(t.Context(), "which cow?", []string{"", strings.Repeat("a ", fixture.NCtx)}, engine.RerankOptions{})
	var text *engine.ErrText
	require.ErrorAs(t, err, &text)
	require.Equal(t, 1, text.Index)
	// a reranker embeds as well
	out, err := e.Embed(t.Context(), docs[:2], engine.EmbedOptions{})
	require.NoError(t, err)
	require.Len(t, out[0], fixture.NEmbd)
}

// TestRerankByDecoder: a reranker with causal attention has a batch no longer than its context, whatever is waiting.
func TestRerankByDecoder(t *testing.T) {
	e := openFixture(t, fixture.CausalReranker(), engine.Params{NCtxEmbed: 300})
	docs := embedTexts(12)
	all, err := e.Rerank(t.Context(), "which cow?", docs, engine.RerankOptions{})
	require.NoError(t, err)
	require.Len(t, all, len(docs))
	for _, s := range all {
		require.True(t, s.Score > 0 && s.Score < 1, "a probability: %v", s.Score)
		alone, err := e.Rerank(t.Context(), "which cow?", docs[s.Index:s.Index+1], engine.RerankOptions{})
		require.NoError(t, err)
		require.InDelta(t, alone[0].Score, s.Score, 1e-4)
	}
}

// In a worker process all is as in this one.
func TestEmbedIsolated(t *testing.T) {
	path := fixture.Reranker().Write(t)
	ctx := t.Context()
	here, err := engine.Open(ctx, path, engine.Params{NThreads: 1})
	require.NoError(t, err)
	defer here.Close()
	there, err := engine.Open(ctx, path, engine.Params{NThreads: 1, Isolated: true})
	require.NoError(t, err)
	defer there.Close()
	texts := embedTexts(4)
	var a, b engine.Usage
	want, err := here.Embed(ctx, texts, engine.EmbedOptions{Pooling: llama.PoolingLast, Norm: engine.NormL1, Usage: &a})
	require.NoError(t, err)
	got, err := there.Embed(ctx, texts, engine.EmbedOptions{Pooling: llama.PoolingLast, Norm: engine.NormL1, Usage: &b})
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, a, b)
	wantScores, err := here.Rerank(ctx, "cow?", texts, engine.RerankOptions{TopN: 3})
	require.NoError(t, err)
	scores, err := there.Rerank(ctx, "cow?", texts, engine.RerankOptions{TopN: 3})
	require.NoError(t, err)
	require.Equal(t, wantScores, scores)
	for _, e := range []*engine.Engine{here, there} {
		_, err = e.EmbedTokens(ctx, [][]llama.Token{{2, 3}, {-1}}, engine.EmbedOptions{})
		var text *engine.ErrText
		require.ErrorAs(t, err, &text)
		require.Equal(t, 1, text.Index)
		require.ErrorIs(t, err, llama.ErrInvalidToken)
		_, err = e.Embed(ctx, texts, engine.EmbedOptions{Pooling: llama.PoolingRank})
		require.ErrorAs(t, err, new(*engine.ErrInvalid))
	}
}
