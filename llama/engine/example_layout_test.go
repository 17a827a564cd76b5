package engine_test

import (
	"context"
	"fmt"
	"log"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// Requests that share no prompts may have streams of their own, here with a cache of half the size.
func ExampleParams_layout() {
	ctx := context.Background()
	m, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	e, err := engine.Open(ctx, m.Path, engine.Params{
		Layout: engine.LayoutStreams, MaxSequences: 4, NCtx: 4096,
		TypeK: llama.KVQ8_0, TypeV: llama.KVQ8_0, NThreads: 1,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	for d, err := range e.Generate(ctx, engine.Request{Prompt: "The capital of France is", MaxTokens: 1, Sampling: &llama.SamplerParams{}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(d.Text)
	}
	s := e.Stats()
	fmt.Println("\ncells:", s.Cells, "timed:", s.Decode > 0)
	// Output:
	//  Paris
	// cells: 4096 timed: true
}
