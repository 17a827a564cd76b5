package llama_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// A LoRA adapter is loaded beside its model, and set for the decodes that follow.
func ExampleContext_SetAdapters() {
	dir, err := os.MkdirTemp("", "models-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	model, adapter := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "adapter.gguf")
	// Random weights stand for a model and its adapter.
	if err := errors.Join(os.WriteFile(model, fixture.Llama(1).Bytes(), 0o600), os.WriteFile(adapter, fixture.LoRA(1).Bytes(), 0o600)); err != nil {
		log.Fatal(err)
	}

	m, err := llama.LoadModel(context.Background(), model, llama.ModelParams{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	a, err := llama.LoadAdapter(m, adapter)
	if err != nil {
		log.Fatal(err)
	}
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 256, NThreads: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	b := llama.NewBatch(1)
	if _, err := b.Add(300, 0, 0, true); err != nil {
		log.Fatal(err)
	}
	for _, set := range [][]llama.AdapterScale{nil, {{Adapter: a, Scale: 1}}} {
		if err := errors.Join(c.Memory().Clear(), c.SetAdapters(set), c.Decode(b)); err != nil {
			log.Fatal(err)
		}
		fmt.Println("decoded with", len(set), "adapters")
	}
	// Output:
	// decoded with 0 adapters
	// decoded with 1 adapters
}

// A model becomes a smaller one: best from 16-bit weights, here from what is at hand.
func ExampleQuantize() {
	ctx := context.Background()
	m, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "models-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "model-Q4_0.gguf")
	err = llama.Quantize(ctx, m.Path, out, llama.QuantizeParams{
		Type: "Q4_0", AllowRequantize: true,
		Progress: func(fraction float32) { fmt.Fprintf(os.Stderr, "\r%3.0f %%", 100*fraction) },
	})
	if err != nil {
		log.Fatal(err)
	}
	before, err := os.Stat(m.Path)
	if err != nil {
		log.Fatal(err)
	}
	after, err := os.Stat(out)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("smaller:", after.Size() < before.Size())
	// Output: smaller: true
}

// The fastest form of a model on this CPU that says the same. It takes a minute, so that this example is not run.
func ExampleTune() {
	r, err := llama.Tune(context.Background(), "model.gguf", llama.TuneParams{MaxKL: 0.001})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range r.Candidates {
		fmt.Printf("%s: prefill %.2f times, decode %.2f times, loss %.5f: %s\n", c.Type, c.PrefillGain, c.DecodeGain, c.Loss, c.Verdict)
	}
	fmt.Println("load", r.Path)
}

// A sequence is written, and goes on in another context: of another process, where it was written to a file.
func ExampleMemory_SaveSeq() {
	ctx := context.Background()
	file, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	m, err := llama.LoadModel(ctx, file.Path, llama.ModelParams{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	newContext := func() *llama.Context {
		c, err := llama.NewContext(m, llama.ContextParams{NCtx: 256, NThreads: 1})
		if err != nil {
			log.Fatal(err)
		}
		return c
	}
	first, second := newContext(), newContext()
	defer first.Close()
	defer second.Close()

	tokens, err := m.Vocab().Tokenize("The capital of France", true, false)
	if err != nil {
		log.Fatal(err)
	}
	b := llama.NewBatch(len(tokens))
	for i, t := range tokens {
		if _, err := b.Add(t, llama.Pos(i), 0, false); err != nil {
			log.Fatal(err)
		}
	}
	if err := first.Decode(b); err != nil {
		log.Fatal(err)
	}
	var state bytes.Buffer
	if err := first.Memory().SaveSeq(0, &state); err != nil {
		log.Fatal(err)
	}
	if err := second.Memory().LoadSeq(0, &state); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(tokens), "tokens, the last position is", second.Memory().PosMax(0))
	// Output: 4 tokens, the last position is 3
}
