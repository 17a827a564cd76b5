package llama_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

// A saved state goes on elsewhere as it would have here, whole or one sequence of it, with every kind of memory.
func TestStateFile(t *testing.T) {
	for name, f := range map[string]*fixture.File{
		"llama": fixture.Llama(1), "gemma3": fixture.Gemma3(), "mamba": fixture.Mamba(), "jamba": fixture.Jamba(),
	} {
		t.Run(name, func(t *testing.T) {
			m := loadFixture(t, f)
			p := llama.ContextParams{NCtx: 128, NSeqMax: 2, KVUnified: true, FlashAttn: llama.FlashAttnOff}
			toks, err := m.Vocab().Tokenize("The quick brown fox jumps over the lazy dog, twice.", true, false)
			require.NoError(t, err)
			n := len(toks) - 1
			next := func(c *llama.Context, s llama.SeqID) []float32 {
				require.NoError(t, c.Decode(batchOf(t, toks[n:], llama.Pos(n), s)))
				out, err := c.Logits(0)
				require.NoError(t, err)
				return out
			}
			from := newContext(t, m, p)
			require.NoError(t, from.Decode(batchOf(t, toks[:n], 0, 0)))
			require.NoError(t, from.Decode(batchOf(t, toks[1:5], 0, 1)))
			var whole, one bytes.Buffer
			require.NoError(t, from.Memory().Save(&whole))
			require.NoError(t, from.Memory().SaveSeq(0, &one))
			want := next(from, 0)

			to := newContext(t, m, p)
			r := io.MultiReader(bytes.NewReader(whole.Bytes()), strings.NewReader("rest"))
			require.NoError(t, to.Memory().Load(r))
			rest, err := io.ReadAll(r)
			require.NoError(t, err)
			require.Equal(t, "rest", string(rest), "no byte more is read")
			require.Equal(t, llama.Pos(3), to.Memory().PosMax(1))
			require.Less(t, farthest(want, next(to, 0)), 1e-3)

			to = newContext(t, m, p)
			require.NoError(t, to.Memory().LoadSeq(1, bytes.NewReader(one.Bytes())))
			require.Equal(t, llama.Pos(-1), to.Memory().PosMax(0))
			require.Less(t, farthest(want, next(to, 1)), 1e-3)
		})
	}
}

// A state that is broken, or of something else, is an error that says so.
func TestStateFileRefused(t *testing.T) {
	m := fixtureModel(t)
	p := llama.ContextParams{NCtx: 128, NSeqMax: 2, FlashAttn: llama.FlashAttnOff}
	from := newContext(t, m, p)
	require.NoError(t, from.Decode(batchOf(t, []llama.Token{5, 6, 7, 8, 9, 10}, 0, 0)))
	var whole, one bytes.Buffer
	require.NoError(t, from.Memory().Save(&whole))
	require.NoError(t, from.Memory().SaveSeq(0, &one))
	changed := func(b []byte, from, to string) []byte {
		require.Contains(t, string(b), from)
		return bytes.Replace(b, []byte(from), []byte(to), 1)
	}
	flipped := bytes.Clone(one.Bytes())
	flipped[len(flipped)-3] ^= 1
	with := func(change func(p *llama.ContextParams)) *llama.Context {
		q := p
		change(&q)
		return newContext(t, m, q)
	}
	other := loadFixture(t, fixture.Llama(1).WithSeed(7))
	for name, c := range map[string]struct {
		state []byte
		whole bool
		into  *llama.Context
		text  string
	}{
		"empty":           {nil, true, from, "first line"},
		"no state":        {bytes.Repeat([]byte("x"), 10000), true, from, "does not begin"},
		"other JSON":      {[]byte("{}\n"), true, from, "does not begin"},
		"whole as one":    {whole.Bytes(), false, from, "of a memory"},
		"one as whole":    {one.Bytes(), true, from, "of a sequence"},
		"cut off":         {one.Bytes()[:one.Len()-1], false, from, "it ends after"},
		"a bit":           {flipped, false, from, "checksum"},
		"llama.cpp":       {changed(one.Bytes(), `"tree":"`, `"tree":"0`), false, from, "of llama.cpp 0"},
		"negative length": {changed(one.Bytes(), `"bytes":`, `"bytes":-`), false, from, "checksum"},
		"absurd length":   {changed(one.Bytes(), `"bytes":`, `"bytes":99999999999`), false, from, "it ends after"},
		"another model":   {one.Bytes(), false, newContext(t, other, p), "another model"},
		"K type":          {one.Bytes(), false, with(func(p *llama.ContextParams) { p.TypeK = llama.KVF32 }), "TypeK"},
		"streams":         {whole.Bytes(), true, with(func(p *llama.ContextParams) { p.KVUnified = true }), "2 streams"},
		"SWAFull":         {one.Bytes(), false, with(func(p *llama.ContextParams) { p.SWAFull = true }), "SWAFull"},
		"flash attention": {one.Bytes(), false, with(func(p *llama.ContextParams) { p.FlashAttn = llama.FlashAttnOn }), "FlashAttn"},
	} {
		t.Run(name, func(t *testing.T) {
			m := c.into.Memory()
			var err error
			if c.whole {
				err = m.Load(bytes.NewReader(c.state))
			} else {
				err = m.LoadSeq(1, bytes.NewReader(c.state))
			}
			require.ErrorIs(t, err, llama.ErrState)
			require.ErrorContains(t, err, c.text)
			require.Equal(t, llama.Pos(-1), m.PosMax(1))
		})
	}
	require.ErrorIs(t, from.Memory().LoadSeq(2, &one), llama.ErrInvalidParam)
	require.ErrorIs(t, from.Memory().SaveSeq(-1, &one), llama.ErrInvalidParam)
	require.Equal(t, llama.Pos(5), from.Memory().PosMax(0), "what was refused has changed nothing")
}
