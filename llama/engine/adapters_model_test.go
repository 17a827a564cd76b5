package engine_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// withAdapters are the parameters of an engine with two adapters.
func withAdapters(t testing.TB, p engine.Params) engine.Params {
	p.Adapters = map[string]string{"one": fixture.LoRA(1).Write(t), "two": fixture.LoRA(2).Write(t)}
	return p
}

var adapterSets = map[string][]engine.AdapterScale{
	"base": nil,
	"one":  {{Name: "one", Scale: 1}},
	"two":  {{Name: "two", Scale: 1}},
	"both": {{Name: "two", Scale: 0.5}, {Name: "one", Scale: 2}},
}

const adapterTokens = 24

// byHand is what a context with the adapters gives.
func byHand(t *testing.T, adapters map[string]string, set []engine.AdapterScale, prompt []llama.Token) []llama.Token {
	t.Helper()
	m, err := llama.LoadModel(t.Context(), fixture.Llama(1).Write(t), llama.ModelParams{})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 256, NThreads: 1, FlashAttn: llama.FlashAttnOff})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	var scales []llama.AdapterScale
	for _, s := range set {
		a, err := llama.LoadAdapter(m, adapters[s.Name])
		require.NoError(t, err)
		scales = append(scales, llama.AdapterScale{Adapter: a, Scale: s.Scale})
	}
	require.NoError(t, c.SetAdapters(scales))
	s, err := llama.NewSampler(m, llama.SamplerParams{})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	var out []llama.Token
	b := llama.NewBatch(len(prompt))
	for i, tok := range prompt {
		_, err := b.Add(tok, llama.Pos(i), 0, i == len(prompt)-1)
		require.NoError(t, err)
	}
	rows := []llama.SampleRow{{Index: len(prompt) - 1, Sampler: s}}
	for {
		require.NoError(t, c.DecodeSample(b, rows))
		require.NoError(t, rows[0].Err)
		out = append(out, rows[0].Token)
		if len(out) == adapterTokens || m.Vocab().IsEOG(rows[0].Token) {
			return out
		}
		b.Clear()
		_, err := b.Add(rows[0].Token, llama.Pos(len(prompt)+len(out)-1), 0, true)
		require.NoError(t, err)
		rows[0].Index = 0
	}
}

// TestAdapters: requests with different adapters at once get what each gets alone from a context that has them.
func TestAdapters(t *testing.T) {
	for name, layout := range map[string]engine.Layout{"unified": engine.LayoutUnified, "streams": engine.LayoutStreams} {
		t.Run(name, func(t *testing.T) { testAdapters(t, layout) })
	}
}

func testAdapters(t *testing.T, layout engine.Layout) {
	p := withAdapters(t, engine.Params{NCtx: 2048, MaxSequences: 12, Layout: layout})
	e := openFixture(t, fixture.Llama(1), p)
	prompt, err := e.Model().Vocab().Tokenize("Once upon a time there was a fox, who lived in a wood.", true, false)
	require.NoError(t, err)
	want := map[string][]llama.Token{}
	for name, set := range adapterSets {
		want[name] = byHand(t, p.Adapters, set, prompt)
	}
	require.NotEqual(t, want["base"], want["one"])
	require.NotEqual(t, want["one"], want["two"])
	require.NotEqual(t, want["one"], want["both"])
	for name, set := range adapterSets {
		a := generate(t, e, engine.Request{Tokens: prompt, MaxTokens: adapterTokens, Sampling: greedy(), Adapters: set})
		require.Equal(t, want[name], a.tokens, "%s alone", name)
	}
	var wg sync.WaitGroup
	for name, set := range adapterSets {
		for range 3 {
			wg.Go(func() {
				a, err := collect(t, context.Background(), e, engine.Request{Tokens: prompt, MaxTokens: adapterTokens, Sampling: greedy(), Adapters: set})
				if err != nil {
					t.Error(err)
					return
				}
				if !equalTokens(want[name], a.tokens) {
					t.Errorf("%s beside others: %v, alone %v", name, a.tokens, want[name])
				}
			})
		}
	}
	wg.Wait()
	requireIdle(t, e)
}

func equalTokens(a, b []llama.Token) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestAdaptersShare: a prefix is shared by requests with the same adapters and scales, and by no others.
func TestAdaptersShare(t *testing.T) {
	e := openFixture(t, fixture.Llama(1), withAdapters(t, engine.Params{NCtx: 2048, MaxSequences: 4}))
	one, two := engine.AdapterScale{Name: "one", Scale: 1}, engine.AdapterScale{Name: "two", Scale: 1}
	seen := map[string]bool{}
	for _, c := range []struct {
		key string
		set []engine.AdapterScale
	}{
		{"base", nil}, {"one", []engine.AdapterScale{one}}, {"half", []engine.AdapterScale{{Name: "one", Scale: 0.5}}},
		{"both", []engine.AdapterScale{one, two}},
		{"both", []engine.AdapterScale{two, one}}, {"base", []engine.AdapterScale{{Name: "one", Scale: 0}}}, {"base", nil},
		{"one", []engine.AdapterScale{one, {Name: "two"}}},
	} {
		a := generate(t, e, engine.Request{
			Prompt: "Once upon a time there was a fox, who lived in a wood.", MaxTokens: 2, Sampling: greedy(), Adapters: c.set,
		})
		if seen[c.key] {
			require.Greater(t, a.result.Usage.Cached, 16, "%v", c.set)
		} else {
			require.Zero(t, a.result.Usage.Cached, "%v", c.set)
		}
		seen[c.key] = true
	}
}

func TestAdaptersRefused(t *testing.T) {
	model := fixture.Llama(1).Write(t)
	bad := filepath.Join(t.TempDir(), "bad.gguf")
	require.NoError(t, os.WriteFile(bad, []byte("GGUF"), 0o600))
	for name, c := range map[string]struct {
		path string
		want error
	}{"no adapter": {bad, llama.ErrAdapter}, "a model": {model, llama.ErrAdapter}, "no file": {"/no/such", os.ErrNotExist}} {
		for _, isolated := range []bool{false, true} {
			_, err := engine.Open(t.Context(), model, engine.Params{
				Adapters: map[string]string{"a": fixture.LoRA(1).Write(t), "b": c.path}, Isolated: isolated,
			})
			require.ErrorIs(t, err, c.want, name)
			require.ErrorContains(t, err, `"b"`)
		}
	}
	e := openFixture(t, fixture.Llama(1), withAdapters(t, engine.Params{}))
	for name, set := range map[string][]engine.AdapterScale{
		"unknown": {{Name: "three", Scale: 1}}, "twice": {{Name: "one", Scale: 1}, {Name: "one", Scale: 1}},
		"no number": {{Name: "one", Scale: float32(math.NaN())}},
	} {
		var refused *engine.ErrInvalid
		_, err := collect(t, context.Background(), e, engine.Request{Prompt: "x", Adapters: set})
		require.ErrorAs(t, err, &refused, name)
		require.Equal(t, "Request.Adapters", refused.Field)
	}
	requireIdle(t, e)
}

// TestAdaptersIsolated: a worker has the adapters, too, wherever its owner has moved.
func TestAdaptersIsolated(t *testing.T) {
	p := withAdapters(t, engine.Params{})
	prompt := []llama.Token{1, 300, 301, 302, 303}
	want := byHand(t, p.Adapters, adapterSets["both"], prompt)
	t.Chdir(filepath.Dir(p.Adapters["one"]))
	p.Adapters["one"], p.Isolated = filepath.Base(p.Adapters["one"]), true
	e := openFixture(t, fixture.Llama(1), p)
	a := generate(t, e, engine.Request{Tokens: prompt, MaxTokens: adapterTokens, Sampling: greedy(), Adapters: adapterSets["both"]})
	require.Equal(t, want, a.tokens)
}
