package llama_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Tune measures each candidate, keeps the file of the one that it chooses, and knows it the next time.
func TestTune(t *testing.T) {
	path, dir := fixture.Llama(1).Write(t), t.TempDir()
	stages := 0
	p := llama.TuneParams{Dir: dir, MaxKL: 1, MinDecode: 1e-9, Rounds: 1, NThreads: 1, Progress: func(string) { stages++ }}
	r, err := llama.Tune(t.Context(), path, p)
	require.NoError(t, err)
	require.False(t, r.Cached)
	require.Greater(t, stages, 4)
	require.Len(t, r.Candidates, 2)
	require.Greater(t, r.Tokens, 300)
	for i, c := range r.Candidates {
		require.Equal(t, []string{"Q8_0", "Q4_0"}[i], c.Type)
		require.Greater(t, c.KL, 0.0)
		require.Less(t, c.KL, 0.1)
		require.Greater(t, c.Agree, 0.2)
		require.NotEmpty(t, c.Verdict)
		for _, f := range []llama.TuneFigures{r.File, c.TuneFigures} {
			require.Positive(t, f.Bytes)
			require.Positive(t, f.Prefill)
			require.Positive(t, f.Decode)
		}
		require.Positive(t, c.PrefillGain)
		require.Positive(t, c.DecodeGain)
	}
	require.Less(t, r.Candidates[0].KL, r.Candidates[1].KL, "more bits, less loss")
	kept, err := filepath.Glob(filepath.Join(dir, "*", "*.gguf"))
	require.NoError(t, err)
	if r.Type == "" {
		require.Equal(t, path, r.Path)
		require.Empty(t, kept)
	} else {
		require.Equal(t, []string{r.Path}, kept)
	}

	p.Progress = func(string) { t.Error("nothing is to be done") }
	again, err := llama.Tune(t.Context(), path, p)
	require.NoError(t, err)
	require.True(t, again.Cached)
	again.Cached = false
	require.Equal(t, r, again)

	p.Progress = nil
	m, err := llama.LoadModel(t.Context(), path, llama.ModelParams{Tune: &p, NGPULayers: llama.NoLayers})
	require.NoError(t, err)
	require.Equal(t, r.Path, m.Path())
	require.NoError(t, m.Close())
}

// TestTuneTogether: who asks while another one tunes gets what that one finds.
func TestTuneTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q4_1.gguf")
	require.NoError(t, llama.Quantize(t.Context(), fixture.Llama(1).Write(t), path, llama.QuantizeParams{Type: "Q4_1", Pure: true}))
	p := llama.TuneParams{Dir: t.TempDir(), MaxKL: 1, MinDecode: 1e-9, Rounds: 1, NThreads: 1}
	var results [3]*llama.TuneResult
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() {
			var err error
			results[i], err = llama.Tune(t.Context(), path, p)
			assert.NoError(t, err)
		})
	}
	all.Wait()
	measured := 0
	for _, r := range results {
		require.NotNil(t, r)
		require.Equal(t, results[0].Path, r.Path)
		if !r.Cached {
			measured++
		}
	}
	require.Equal(t, 1, measured)
}

// Of a Q4_1 file Q8_0 is the same weights, nearly.
func TestTuneQ4_1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q4_1.gguf")
	require.NoError(t, llama.Quantize(t.Context(), fixture.Llama(1).Write(t), path, llama.QuantizeParams{Type: "Q4_1", Pure: true}))
	dir := t.TempDir()
	r, err := llama.Tune(t.Context(), path, llama.TuneParams{Dir: dir, MaxKL: 1, MinDecode: 1e-9, Rounds: 1, NThreads: 1})
	require.NoError(t, err)
	require.Positive(t, r.KL)
	require.Len(t, r.Candidates, 2)
	require.Less(t, math.Abs(r.Candidates[0].Loss), r.Candidates[1].Loss/10, "Q8_0 beside Q4_0")
	require.InDelta(t, r.Candidates[0].KL-r.KL, r.Candidates[0].Loss, 1e-12)
	kept, err := filepath.Glob(filepath.Join(dir, "*", "exact.gguf"))
	require.NoError(t, err)
	require.Empty(t, kept)
}

// What loses more than the bound, or is slower, is not taken, and nothing of it stays.
func TestTuneBounds(t *testing.T) {
	path := fixture.Llama(1).Write(t)
	for name, p := range map[string]llama.TuneParams{
		"divergence": {MaxKL: 1e-12},
		"decode":     {MaxKL: 1, MinDecode: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			p.Dir, p.Rounds, p.NThreads = t.TempDir(), 1, 1
			r, err := llama.Tune(t.Context(), path, p)
			require.NoError(t, err)
			require.Empty(t, r.Type)
			require.Equal(t, path, r.Path)
			for _, c := range r.Candidates {
				require.Contains(t, c.Verdict, map[string]string{"divergence": "the loss is above", "decode": "generating is below"}[name])
			}
			kept, err := filepath.Glob(filepath.Join(p.Dir, "*", "*.gguf"))
			require.NoError(t, err)
			require.Empty(t, kept)
			m, err := llama.LoadModel(t.Context(), path, llama.ModelParams{Tune: &p, NGPULayers: llama.NoLayers})
			require.NoError(t, err)
			require.Equal(t, path, m.Path())
			require.NoError(t, m.Close())
		})
	}
}

func TestTuneRefused(t *testing.T) {
	path := fixture.Llama(1).Write(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	later, cancelLater := context.WithCancel(t.Context())
	defer cancelLater()
	for name, c := range map[string]struct {
		ctx  context.Context
		path string
		p    llama.TuneParams
		want error
	}{
		"type":       {t.Context(), path, llama.TuneParams{Types: []string{"Q9"}}, llama.ErrInvalidParam},
		"bound":      {t.Context(), path, llama.TuneParams{MaxKL: math.NaN()}, llama.ErrInvalidParam},
		"rounds":     {t.Context(), path, llama.TuneParams{Rounds: -1}, llama.ErrInvalidParam},
		"short text": {t.Context(), path, llama.TuneParams{Text: "hello"}, llama.ErrInvalidParam},
		"no file":    {t.Context(), "/no/such", llama.TuneParams{}, os.ErrNotExist},
		"embedding":  {t.Context(), fixture.BERT(fixture.PoolingMean).Write(t), llama.TuneParams{}, llama.ErrUnsupported},
		"cancelled":  {cancelled, path, llama.TuneParams{}, context.Canceled},
		"later":      {later, path, llama.TuneParams{Progress: func(string) { cancelLater() }}, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			c.p.Dir = t.TempDir()
			_, err := llama.Tune(c.ctx, c.path, c.p)
			require.ErrorIs(t, err, c.want)
			kept, err := filepath.Glob(filepath.Join(c.p.Dir, "*", "*.*")) // not the lock
			require.NoError(t, err)
			require.Empty(t, kept)
		})
	}
}
