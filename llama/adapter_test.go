package llama_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

func loadAdapter(t testing.TB, m *llama.Model, f *fixture.File) *llama.Adapter {
	t.Helper()
	a, err := llama.LoadAdapter(m, f.Write(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

// An adapter changes the logits, by its scale, and only while it is set.
func TestAdapter(t *testing.T) {
	m := fixtureModel(t)
	one, two := loadAdapter(t, m, fixture.LoRA(1)), loadAdapter(t, m, fixture.LoRA(2))
	require.Equal(t, 4, one.Rank())
	require.Equal(t, float32(16), one.Alpha())
	require.Same(t, m, one.Model())
	toks, err := m.Vocab().Tokenize("hello, you there", true, false)
	require.NoError(t, err)
	c := newContext(t, m, llama.ContextParams{NCtx: 64, FlashAttn: llama.FlashAttnOff})
	logits := func(set ...llama.AdapterScale) []float32 {
		require.NoError(t, c.SetAdapters(set))
		require.NoError(t, c.Memory().Clear())
		require.NoError(t, c.Decode(batchOf(t, toks, 0, 0)))
		out, err := c.Logits(len(toks) - 1)
		require.NoError(t, err)
		return out
	}
	base := logits()
	first := logits(llama.AdapterScale{Adapter: one, Scale: 1})
	second := logits(llama.AdapterScale{Adapter: two, Scale: 1})
	both := logits(llama.AdapterScale{Adapter: one, Scale: 1}, llama.AdapterScale{Adapter: two, Scale: 0.5})
	all := [][]float32{base, first, second, both}
	for i, a := range all {
		for _, b := range all[:i] {
			require.Greater(t, farthest(a, b), 1e-3)
		}
	}
	require.Less(t, farthest(first, logits(llama.AdapterScale{Adapter: one, Scale: 1})), 1e-6)
	require.Less(t, farthest(base, logits(llama.AdapterScale{Adapter: one})), 1e-6, "a scale of 0")
	require.Less(t, farthest(base, logits()), 1e-6)

	require.NoError(t, c.SetAdapters([]llama.AdapterScale{{Adapter: one, Scale: 1}}))
	require.ErrorIs(t, one.Close(), llama.ErrInUse)
	nan := float32(math.NaN())
	require.ErrorIs(t, c.SetAdapters([]llama.AdapterScale{{Adapter: two, Scale: nan}}), llama.ErrInvalidParam)
	require.ErrorIs(t, c.SetAdapters([]llama.AdapterScale{{Adapter: two}, {Adapter: two}}), llama.ErrInvalidParam)
	require.ErrorIs(t, c.SetAdapters([]llama.AdapterScale{{}}), llama.ErrClosed)
	require.NoError(t, two.Close(), "what was refused does not hold it")
	require.ErrorIs(t, c.SetAdapters([]llama.AdapterScale{{Adapter: two, Scale: 1}}), llama.ErrClosed)
	other := loadAdapter(t, fixtureModel(t), fixture.LoRA(1))
	require.ErrorIs(t, c.SetAdapters([]llama.AdapterScale{{Adapter: other, Scale: 1}}), llama.ErrInvalidParam)
	require.NoError(t, c.Close())
	require.NoError(t, one.Close())
	require.NoError(t, one.Close())
}

// An adapter ends with its model.
func TestAdapterOutlived(t *testing.T) {
	m, err := llama.LoadModel(t.Context(), fixture.Llama(1).Write(t), llama.ModelParams{})
	require.NoError(t, err)
	a, err := llama.LoadAdapter(m, fixture.LoRA(1).Write(t))
	require.NoError(t, err)
	require.NoError(t, m.Close())
	require.NoError(t, a.Close())
	_, err = llama.LoadAdapter(m, fixture.LoRA(1).Write(t))
	require.ErrorIs(t, err, llama.ErrClosed)
}

// What is no adapter for the model is an error, most of it found before llama.cpp, which would end the process.
func TestAdapterFormat(t *testing.T) {
	m := fixtureModel(t)
	lora := func(change func(f *fixture.File)) *fixture.File {
		f := fixture.LoRA(1)
		if change != nil {
			change(f)
		}
		return f
	}
	dims := func(i int, d ...int) func(f *fixture.File) {
		return func(f *fixture.File) { f.Tensors[i].Dims = d }
	}
	named := func(i int, name string) func(f *fixture.File) {
		return func(f *fixture.File) { f.Tensors[i].Name = name }
	}
	for name, c := range map[string]struct {
		file *fixture.File
		want error
		text string
	}{
		"a model":               {fixture.Llama(1), llama.ErrAdapter, "general.type"},
		"control vector":        {lora(nil).With("adapter.type", "control_vector"), llama.ErrAdapter, `"lora"`},
		"type is a number":      {lora(nil).With("adapter.type", uint32(1)), llama.ErrAdapter, "adapter.type"},
		"another architecture":  {lora(nil).With("general.architecture", "gemma3"), llama.ErrAdapter, "gemma3"},
		"architecture a number": {lora(nil).With("general.architecture", uint32(1)), llama.ErrAdapter, "general.architecture"},
		"alpha is an integer":   {lora(nil).With("adapter.lora.alpha", uint32(1)), llama.ErrAdapter, "alpha"},
		"alpha is no number":    {lora(nil).With("adapter.lora.alpha", float32(math.NaN())), llama.ErrAdapter, "alpha"},
		"activated":             {lora(nil).With("adapter.alora.invocation_tokens", []int32{1}), llama.ErrUnsupported, "aLoRA"},
		"nothing":               {lora(func(f *fixture.File) { f.Tensors = nil }), llama.ErrAdapter, "no tensor"},
		"half a pair":           {lora(func(f *fixture.File) { f.Tensors = f.Tensors[1:] }), llama.ErrAdapter, "not both"},
		"no such tensor":        {lora(func(f *fixture.File) { named(0, "x.lora_a")(f); named(1, "x.lora_b")(f) }), llama.ErrAdapter, "does not exist"},
		"neither a nor b":       {lora(named(0, "blk.0.attn_q.weight")), llama.ErrAdapter, "neither"},
		"three dimensions":      {lora(dims(0, 32, 4, 2)), llama.ErrAdapter, "want a matrix"},
		"one dimension":         {lora(dims(0, 32)), llama.ErrAdapter, "want a matrix"},
		"ranks differ":          {lora(dims(0, 32, 5)), llama.ErrAdapter, "do not fit each other"},
		"wrong width":           {lora(dims(0, 16, 4)), llama.ErrAdapter, "incorrect shape"},
		"wrong height":          {lora(dims(1, 4, 16)), llama.ErrAdapter, "incorrect shape"},
		"experts without any":   {lora(func(f *fixture.File) { named(0, "blk.0.ffn_up_exps.weight.lora_a")(f) }), llama.ErrAdapter, "0 experts"},
		"embeddings, ranks": {lora(func(f *fixture.File) {
			named(0, "token_embd.weight.lora_a")(f)
			named(1, "token_embd.weight.lora_b")(f)
		}), llama.ErrAdapter, "do not fit each other"},
		"alignment": {lora(nil).With("general.alignment", uint32(3)), llama.ErrAdapter, "alignment"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := llama.LoadAdapter(m, c.file.Write(t))
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.text)
		})
	}
	t.Run("cut off", func(t *testing.T) {
		b := fixture.LoRA(1).Bytes()
		path := filepath.Join(t.TempDir(), "cut.gguf")
		for _, n := range []int{0, 3, 100, len(b) / 2, len(b) - 100} {
			require.NoError(t, os.WriteFile(path, b[:n], 0o600))
			_, err := llama.LoadAdapter(m, path)
			require.ErrorIs(t, err, llama.ErrAdapter, "%d bytes", n)
		}
	})
	_, err := llama.LoadAdapter(m, "/no/such/file")
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = llama.LoadAdapter(m, t.TempDir())
	require.ErrorIs(t, err, llama.ErrAdapter)
}

// A matrix of the embeddings would be taken for one of the output, which has the other shape.
func TestAdapterTiedEmbeddings(t *testing.T) {
	f := fixture.Llama(1)
	for i, tensor := range f.Tensors {
		if tensor.Name == "output.weight" {
			f.Tensors = append(f.Tensors[:i], f.Tensors[i+1:]...)
			break
		}
	}
	embeddings := func() *fixture.File {
		a := fixture.LoRA(1)
		a.Tensors = a.Tensors[:2]
		a.Tensors[0].Name, a.Tensors[0].Dims = "token_embd.weight.lora_a", []int{4, fixture.NTokens}
		a.Tensors[1].Name, a.Tensors[1].Dims = "token_embd.weight.lora_b", []int{4, fixture.NEmbd}
		return a
	}
	_, err := llama.LoadAdapter(loadFixture(t, f), embeddings().Write(t))
	require.ErrorIs(t, err, llama.ErrUnsupported)

	m := fixtureModel(t) // has an output layer
	a := loadAdapter(t, m, embeddings())
	c := newContext(t, m, llama.ContextParams{NCtx: 64})
	require.NoError(t, c.SetAdapters([]llama.AdapterScale{{Adapter: a, Scale: 1}}))
	require.NoError(t, c.Decode(batchOf(t, []llama.Token{5, 6, 7}, 0, 0)))
	require.NoError(t, c.Close())
}

// Adapters come and go beside contexts that compute with others.
func TestAdapterBesideDecodes(t *testing.T) {
	m := fixtureModel(t)
	kept, path := loadAdapter(t, m, fixture.LoRA(1)), fixture.LoRA(2).Write(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 64})
	done := make(chan error)
	go func() {
		for range 40 {
			a, err := llama.LoadAdapter(m, path)
			if err == nil {
				err = a.Close()
			}
			if err != nil {
				done <- err
				return
			}
		}
		close(done)
	}()
	for i := range 200 {
		set := []llama.AdapterScale{{Adapter: kept, Scale: float32(i % 3)}}
		require.NoError(t, c.SetAdapters(set))
		require.NoError(t, c.Memory().Clear())
		require.NoError(t, c.Decode(batchOf(t, []llama.Token{5, 6, 7}, 0, 0)))
	}
	require.NoError(t, <-done)
	require.NoError(t, c.Close())
}
