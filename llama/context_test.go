package llama_test

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

func TestContextTellsWhatItWasMadeWith(t *testing.T) {
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{})
	require.Same(t, m, c.Model())
	require.Equal(t, fixture.NCtx, c.NCtx())
	require.Equal(t, fixture.NCtx, c.NCtxSeq())
	require.Equal(t, fixture.NCtx, c.NBatch(), "llama.cpp clamps n_batch to n_ctx")
	require.Equal(t, 1, c.NSeqMax())
	require.True(t, c.Memory().CanShift())
	streams := newContext(t, m, llama.ContextParams{NCtx: 1024, NSeqMax: 4})
	require.Equal(t, 256, streams.NCtxSeq())
	unified := newContext(t, m, llama.ContextParams{NCtx: 1024, NSeqMax: 4, KVUnified: true, NBatch: 32, NUBatch: 16})
	require.Equal(t, []int{1024, 1024, 32, 16, 4}, []int{unified.NCtx(), unified.NCtxSeq(), unified.NBatch(), unified.NUBatch(), unified.NSeqMax()})
}

func TestNewContextRefusesParams(t *testing.T) {
	m := fixtureModel(t)
	for name, p := range map[string]llama.ContextParams{
		"negative NCtx":         {NCtx: -1},
		"huge NCtx":             {NCtx: 1 << 40},
		"negative NBatch":       {NBatch: -1},
		"too many sequences":    {NSeqMax: 257},
		"small context":         {NCtx: 4, NSeqMax: 8},
		"small batch":           {NBatch: 4, NSeqMax: 8},
		"few outputs":           {NSeqMax: 4, NOutputsMax: 3},
		"threads":               {NThreads: 10_000},
		"batch threads":         {NThreadsBatch: -1},
		"flash attention":       {FlashAttn: 9},
		"type":                  {TypeK: 99},
		"quantised V, no FA":    {FlashAttn: llama.FlashAttnOff, TypeV: llama.KVQ8_0},
		"block does not divide": {TypeK: llama.KVQ8_0, TypeV: llama.KVQ8_0, FlashAttn: llama.FlashAttnOn},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := llama.NewContext(m, p)
			require.ErrorIs(t, err, llama.ErrInvalidParam)
		})
	}
}

// A KV cache beyond the machine's memory is an error before the kernel ends the process for it.
func TestNewContextBeyondMemory(t *testing.T) {
	devices, err := llama.Devices()
	require.NoError(t, err)
	require.NotZero(t, devices[0].MemoryTotal)
	_, err = llama.NewContext(testModel(t, "default"), llama.ContextParams{NCtx: 1 << 30})
	var im *llama.ErrInsufficientMemory
	require.ErrorAs(t, err, &im)
	require.Equal(t, "context", im.What)
}

func TestDecodeRefusesBatches(t *testing.T) {
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 64, NBatch: 16, NOutputsMax: 4, NSeqMax: 2, KVUnified: true})
	n := llama.Token(m.Vocab().NTokens())
	batch := func(add func(b *llama.Batch)) *llama.Batch {
		b := llama.NewBatch(64)
		add(b)
		return b
	}
	many := func(n int, logits bool) *llama.Batch {
		return batch(func(b *llama.Batch) {
			for i := range n {
				_, err := b.Add(1, llama.Pos(i), 0, logits)
				require.NoError(t, err)
			}
		})
	}
	one := func(tok llama.Token, p llama.Pos, s llama.SeqID) *llama.Batch {
		return batch(func(b *llama.Batch) { _, _ = b.Add(tok, p, s, true) })
	}
	closed := llama.NewBatch(1)
	require.NoError(t, closed.Close())
	require.NoError(t, closed.Close())
	for _, tt := range []struct {
		name string
		b    *llama.Batch
		err  error
	}{
		{"nil", nil, llama.ErrClosed},
		{"closed", closed, llama.ErrClosed},
		{"empty", llama.NewBatch(1), llama.ErrInvalidBatch},
		{"more than NBatch", many(17, false), llama.ErrInvalidBatch},
		{"more outputs than NOutputsMax", many(5, true), llama.ErrInvalidBatch},
		{"token", one(n, 0, 0), llama.ErrInvalidToken},
		{"sequence", one(1, 0, 2), llama.ErrInvalidBatch},
		{"position with a gap", batch(func(b *llama.Batch) {
			_, _ = b.Add(1, 0, 0, false)
			_, _ = b.Add(1, 2, 0, true)
		}), llama.ErrInvalidBatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.ErrorIs(t, c.Decode(tt.b), tt.err)
			require.Equal(t, llama.Pos(-1), c.Memory().PosMax(0), "nothing was decoded")
		})
	}
	require.NoError(t, c.Decode(many(4, true)))
	err := c.Decode(one(1, 7, 0))
	var de *llama.DecodeError
	require.ErrorAs(t, err, &de)
	require.Equal(t, -1, de.Code)
	require.ErrorContains(t, err, "inconsistent", "llama.cpp's own words are kept")
}

// Only F16 and F32 K caches can be shifted: with others the next decode would crash.
func TestShiftNeedsFloats(t *testing.T) {
	m := wideModel(t)
	for typ, can := range map[llama.KVType]bool{llama.KVF16: true, llama.KVF32: true, llama.KVBF16: false, llama.KVQ8_0: false, llama.KVQ4_0: false} {
		c := newContext(t, m, llama.ContextParams{NCtx: 256, TypeK: typ})
		require.NoError(t, c.Decode(batchOf(t, []llama.Token{1, 2, 3}, 0, 0)))
		require.Equal(t, can, c.Memory().CanShift(), typ)
		err := c.Memory().SeqAdd(0, 2, -1, 1)
		if can {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, llama.ErrUnsupported)
			require.ErrorIs(t, c.Memory().SeqDiv(0, -1, -1, 2), llama.ErrUnsupported)
		}
		require.NoError(t, c.Decode(batchOf(t, []llama.Token{4}, c.Memory().PosMax(0)+1, 0)))
	}
}

func TestDecodeWithoutRoom(t *testing.T) {
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 256, NSeqMax: 2, KVUnified: true})
	fill := make([]llama.Token, c.NCtx())
	require.NoError(t, c.Decode(batchOf(t, fill, 0, 0)))
	require.ErrorIs(t, c.Decode(batchOf(t, fill[:1], 0, 1)), llama.ErrNoKVSlot)
	require.NoError(t, c.Memory().SeqRemove(0, -1, -1))
	require.NoError(t, c.Decode(batchOf(t, fill[:1], 0, 1)))
}

// A model without causal attention computes a batch at once: llama.cpp aborts for one larger than n_ubatch.
func TestDecodeWithoutCausalAttention(t *testing.T) {
	f := fixture.Llama(1).With("llama.attention.causal", false)
	m, err := llama.LoadModel(t.Context(), f.Write(t), llama.ModelParams{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	c := newContext(t, m, llama.ContextParams{NCtx: 256, NUBatch: 8})
	require.ErrorIs(t, c.Decode(batchOf(t, make([]llama.Token, 9), 0, 0)), llama.ErrInvalidBatch)
	require.NoError(t, c.Decode(batchOf(t, make([]llama.Token, 8), 0, 0)))
}

func TestBatch(t *testing.T) {
	b := llama.NewBatch(2)
	_, err := b.Add(-1, 0, 0, false)
	require.ErrorIs(t, err, llama.ErrInvalidToken)
	_, err = b.Add(1, -1, 0, false)
	require.ErrorIs(t, err, llama.ErrInvalidBatch)
	_, err = b.Add(1, 0, -1, false)
	require.ErrorIs(t, err, llama.ErrInvalidBatch)
	for i := range 2 {
		at, err := b.Add(1, llama.Pos(i), 0, false)
		require.NoError(t, err)
		require.Equal(t, i, at)
	}
	_, err = b.Add(1, 2, 0, false)
	require.ErrorIs(t, err, llama.ErrInvalidBatch)
	b.Clear()
	require.Equal(t, 0, b.Len())
	_, err = b.Add(1, 0, 0, false)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	_, err = b.Add(1, 0, 0, false)
	require.ErrorIs(t, err, llama.ErrClosed)
}

func TestLogits(t *testing.T) {
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 64})
	_, err := c.Logits(0)
	require.ErrorIs(t, err, llama.ErrNoLogits)
	require.NoError(t, c.Decode(batchOf(t, []llama.Token{1, 70, 71}, 0, 0)))
	for _, i := range []int{-1, 0, 1, 3, 1 << 40} {
		_, err := c.Logits(i)
		require.ErrorIs(t, err, llama.ErrNoLogits, i)
	}
	l, err := c.Logits(2)
	require.NoError(t, err)
	require.Len(t, l, m.Vocab().NTokens())
	s := newSampler(t, m, llama.SamplerParams{})
	tok, err := s.Sample(c, 2)
	require.NoError(t, err)
	for id, x := range l {
		require.LessOrEqual(t, x, l[tok], "token %d", id)
	}
	require.Error(t, c.Decode(batchOf(t, []llama.Token{1}, 9, 0)))
	_, err = c.Logits(2)
	require.ErrorIs(t, err, llama.ErrNoLogits, "a failed decode has none")
}

// The logits of a sequence must not depend on what else is in the batch, up to rounding.
func TestSequencesAreIndependent(t *testing.T) {
	m := fixtureModel(t)
	prompts := [][]llama.Token{{1, 70, 71, 72}, {1, 90}, {1, 80, 81, 82, 83, 84}}
	alone := make([][]llama.Token, len(prompts))
	for i, p := range prompts {
		c := newContext(t, m, llama.ContextParams{NCtx: 64, FlashAttn: llama.FlashAttnOff})
		alone[i] = generate(t, c, newSampler(t, m, llama.SamplerParams{}), p, 12)
	}
	for name, p := range map[string]llama.ContextParams{
		"unified": {NCtx: 256, NSeqMax: 3, KVUnified: true, FlashAttn: llama.FlashAttnOff},
		"streams": {NCtx: 768, NSeqMax: 3, FlashAttn: llama.FlashAttnOff},
	} {
		t.Run(name, func(t *testing.T) {
			c := newContext(t, m, p)
			b := llama.NewBatch(64)
			rows := make([]llama.SampleRow, len(prompts))
			pos := make([]llama.Pos, len(prompts))
			for s, p := range prompts {
				rows[s].Sampler = newSampler(t, m, llama.SamplerParams{})
				for i, tok := range p {
					at, err := b.Add(tok, llama.Pos(i), llama.SeqID(s), i == len(p)-1)
					require.NoError(t, err)
					rows[s].Index = at
				}
				pos[s] = llama.Pos(len(p))
			}
			out := make([][]llama.Token, len(prompts))
			for range 12 {
				require.NoError(t, c.DecodeSample(b, rows))
				b.Clear()
				for s := range rows {
					require.NoError(t, rows[s].Err)
					out[s] = append(out[s], rows[s].Token)
					at, err := b.Add(rows[s].Token, pos[s], llama.SeqID(s), true)
					require.NoError(t, err)
					rows[s].Index = at
					pos[s]++
				}
			}
			for s := range out {
				require.Equal(t, alone[s], out[s][:len(alone[s])], "sequence %d", s)
			}
		})
	}
}

// Contexts of one model work at the same time and do not disturb each other.
func TestContextsInParallel(t *testing.T) {
	m := fixtureModel(t)
	prompt := []llama.Token{1, 70, 71, 72}
	run := func() []llama.Token {
		c := newContext(t, m, llama.ContextParams{NCtx: 64})
		return generate(t, c, newSampler(t, m, llama.SamplerParams{}), prompt, 24)
	}
	want := run()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if got := run(); !slices.Equal(want, got) {
					t.Errorf("%v, alone it gave %v", got, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestDecodeSampleRows(t *testing.T) {
	m, other := fixtureModel(t), fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 64})
	good := newSampler(t, m, llama.SamplerParams{})
	shut := newSampler(t, m, llama.SamplerParams{})
	require.NoError(t, shut.Close())
	strange := newSampler(t, other, llama.SamplerParams{})

	require.ErrorIs(t, c.DecodeSample(batchOf(t, []llama.Token{1, 2}, 0, 0), []llama.SampleRow{{Index: 0, Sampler: good}}), llama.ErrNoLogits)
	require.ErrorIs(t, c.DecodeSample(batchOf(t, []llama.Token{1, 2}, 0, 0), []llama.SampleRow{{Index: 2, Sampler: good}}), llama.ErrNoLogits)
	require.Equal(t, llama.Pos(-1), c.Memory().PosMax(0))

	rows := []llama.SampleRow{{Index: 1, Sampler: shut}, {Index: 1, Sampler: good}, {Index: 1, Sampler: strange}, {Index: 1}, {Index: 1, Sampler: good}}
	require.NoError(t, c.DecodeSample(batchOf(t, []llama.Token{1, 2}, 0, 0), rows))
	require.ErrorIs(t, rows[0].Err, llama.ErrClosed)
	require.NoError(t, rows[1].Err)
	require.ErrorIs(t, rows[2].Err, llama.ErrInvalidParam)
	require.ErrorIs(t, rows[3].Err, llama.ErrClosed)
	require.ErrorIs(t, rows[4].Err, llama.ErrInUse, "rows are sampled at the same time")
	require.NoError(t, c.DecodeSample(batchOf(t, []llama.Token{3}, 2, 0), []llama.SampleRow{{Index: 0, Sampler: good}}), "but the first one has let go")
}

func TestDecodeSampleDoesNotAllocate(t *testing.T) {
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 512})
	b := llama.NewBatch(1)
	rows := []llama.SampleRow{{Sampler: newSampler(t, m, llama.SamplerParams{})}}
	p := llama.Pos(0)
	step := func() {
		b.Clear()
		_, err := b.Add(1, p, 0, true)
		p++
		if err != nil || c.DecodeSample(b, rows) != nil || rows[0].Err != nil {
			t.Fatal(err, rows[0].Err)
		}
	}
	step()
	require.Zero(t, testing.AllocsPerRun(100, step))
}

func TestAbort(t *testing.T) {
	m := testModel(t, "default")
	c := newContext(t, m, llama.ContextParams{NCtx: 2048, NUBatch: 64})
	toks := make([]llama.Token, 1500)
	for i := range toks {
		toks[i] = llama.Token(100 + i)
	}
	done := make(chan error, 1)
	go func() { done <- c.Decode(batchOf(t, toks, 0, 0)) }()
	for running := true; running; { // until it surely runs, then stop it
		select {
		case err := <-done:
			require.ErrorIs(t, err, llama.ErrAborted)
			running = false
		case <-time.After(50 * time.Millisecond):
			c.Abort()
		}
	}
	require.Less(t, c.Memory().PosMax(0), llama.Pos(len(toks)-1), "the rest was not computed")
	require.ErrorIs(t, c.Decode(batchOf(t, toks[:1], 0, 0)), llama.ErrAborted, "the flag stays")
	c.ResetAbort()
	require.NoError(t, c.Memory().Clear())
	require.NoError(t, c.Decode(batchOf(t, toks[:4], 0, 0)))
}

func TestClosedObjects(t *testing.T) {
	m, err := llama.LoadModel(t.Context(), fixture.Llama(1).Write(t), llama.ModelParams{})
	require.NoError(t, err)
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 64, NThreads: 1})
	require.NoError(t, err)
	s, err := llama.NewSampler(m, llama.SamplerParams{Grammar: `root ::= "a"+`})
	require.NoError(t, err)
	require.NoError(t, c.Decode(batchOf(t, []llama.Token{1}, 0, 0)))

	require.ErrorIs(t, m.Close(), llama.ErrInUse, "a context is open")
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())

	c.Abort()
	c.ResetAbort()
	mem := c.Memory()
	v := m.Vocab()
	_, logits := c.Logits(0)
	_, sample := s.Sample(c, 0)
	_, clone := s.Clone()
	_, context := llama.NewContext(m, llama.ContextParams{})
	_, sampler := llama.NewSampler(m, llama.SamplerParams{})
	_, template := llama.NewChatTemplate(m, "{{ messages[0].content }}")
	_, tokenize := v.Tokenize("a", true, true)
	_, detokenize := v.Detokenize([]llama.Token{1}, true, true)
	_, text := v.Text(1)
	for i, err := range []error{
		c.Decode(batchOf(t, []llama.Token{1}, 0, 0)), logits, sample, clone, context, sampler, template, tokenize, detokenize, text,
		s.Accept(1), s.AcceptPrompt([]llama.Token{1}), s.Reset(), llama.CheckGrammar(m, `root ::= "a"`),
		mem.Clear(), mem.SeqRemove(0, -1, -1), mem.SeqCopy(0, 0, -1, -1), mem.SeqKeep(0), mem.SeqAdd(0, 0, 1, 1), mem.SeqDiv(0, 0, 1, 2),
	} {
		require.ErrorIs(t, err, llama.ErrClosed, "call %d", i)
	}
	require.Equal(t, llama.Pos(-1), mem.PosMax(0))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Accept(1), llama.ErrClosed)
}

func TestNilObjects(t *testing.T) {
	var (
		m *llama.Model
		c *llama.Context
		s *llama.Sampler
		b *llama.Batch
		k *llama.ChatTemplate
		p *llama.ChatParser
	)
	for _, err := range []error{m.Close(), c.Close(), s.Close(), b.Close(), k.Close(), p.Close()} {
		require.NoError(t, err)
	}
	c.Abort()
	b.Clear()
	require.Zero(t, b.Len())
	_, err := llama.NewContext(nil, llama.ContextParams{})
	require.ErrorIs(t, err, llama.ErrClosed)
	_, err = llama.NewSampler(nil, llama.SamplerParams{})
	require.ErrorIs(t, err, llama.ErrClosed)
	_, err = llama.NewChatTemplate(nil, "")
	require.ErrorIs(t, err, llama.ErrClosed)
	require.ErrorIs(t, c.Decode(llama.NewBatch(1)), llama.ErrClosed)
	require.ErrorIs(t, s.Accept(1), llama.ErrClosed)
	_, err = k.Apply(llama.ChatTemplateRequest{})
	require.ErrorIs(t, err, llama.ErrClosed)
	_, err = p.Parse("", false)
	require.ErrorIs(t, err, llama.ErrClosed)
}

// Closing while other goroutines work is never a crash: each call succeeds or says that it came too late.
func TestCloseDuringUse(t *testing.T) {
	m, err := llama.LoadModel(t.Context(), fixture.Llama(1).Write(t), llama.ModelParams{})
	require.NoError(t, err)
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 512, NThreads: 1})
	require.NoError(t, err)
	s, err := llama.NewSampler(m, llama.SamplerParams{})
	require.NoError(t, err)
	ok := func(err error) bool {
		return err == nil || errors.Is(err, llama.ErrClosed) || errors.Is(err, llama.ErrInUse) || errors.Is(err, llama.ErrNoLogits) ||
			errors.Is(err, llama.ErrInvalidBatch) || errors.Is(err, llama.ErrAborted)
	}
	done := make(chan error, 4)
	work := func(f func() error) {
		go func() {
			for {
				err := f()
				if !ok(err) || errors.Is(err, llama.ErrClosed) {
					done <- err
					return
				}
				runtime.Gosched()
			}
		}()
	}
	tok := []llama.Token{1}
	work(func() error {
		return c.DecodeSample(batchOf(t, tok, 0, 0), []llama.SampleRow{{Sampler: s}})
	})
	work(func() error {
		c.Abort()
		c.ResetAbort()
		return c.Memory().Clear()
	})
	work(func() error {
		_, err := m.Vocab().Tokenize("some text", true, true)
		return err
	})
	work(func() error {
		return s.Accept(5)
	})
	require.Eventually(t, func() bool { return s.Close() == nil }, time.Minute, time.Millisecond)
	require.NoError(t, c.Close())
	require.NoError(t, m.Close())
	for range 4 {
		require.ErrorIs(t, <-done, llama.ErrClosed)
	}
}
