package llama_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// A LoRA adapter is loaded beside its model, and set for the decodes that follow.
func ExampleContext_SetAdapters() {
	m, err := llama.LoadModel(context.Background(), "model.gguf", llama.ModelParams{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	a, err := llama.LoadAdapter(m, "adapter.gguf")
	if err != nil {
		log.Fatal(err)
	}
	c, err := llama.NewContext(m, llama.ContextParams{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.SetAdapters([]llama.AdapterScale{{Adapter: a, Scale: 1}}); err != nil {
		log.Fatal(err)
	}
}

// A model of 16-bit weights becomes a smaller one.
func ExampleQuantize() {
	err := llama.Quantize(context.Background(), "model-F16.gguf", "model-Q4_K_M.gguf", llama.QuantizeParams{
		Type:     "Q4_K_M",
		Progress: func(fraction float32) { fmt.Fprintf(os.Stderr, "\r%3.0f %%", 100*fraction) },
	})
	if err != nil {
		log.Fatal(err)
	}
}

// The fastest form of a model on this CPU that says the same.
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

// A sequence is written to a file, and goes on in another process.
func ExampleMemory_SaveSeq() {
	m, err := llama.LoadModel(context.Background(), "model.gguf", llama.ModelParams{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	c, err := llama.NewContext(m, llama.ContextParams{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	f, err := os.Create("sequence.state")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	if err := c.Memory().SaveSeq(0, f); err != nil {
		log.Fatal(err)
	}
}
