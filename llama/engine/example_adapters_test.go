package engine_test

import (
	"context"
	"fmt"
	"log"
	"slices"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// Requests with and without a LoRA adapter, on one model.
func ExampleParams_adapters() {
	ctx := context.Background()
	model, removeModel := fixtureFile(fixture.Llama(1)) // stands for your model
	defer removeModel()
	pirate, removePirate := fixtureFile(fixture.LoRA(1)) // and this for an adapter of it
	defer removePirate()

	e, err := engine.Open(ctx, model, engine.Params{NThreads: 1, Adapters: map[string]string{"pirate": pirate}})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	var answers [2][]llama.Token
	for i, set := range [][]engine.AdapterScale{nil, {{Name: "pirate", Scale: 0.8}}} {
		r := engine.Request{Prompt: "Good morning", MaxTokens: 8, IgnoreEOS: true, Sampling: &llama.SamplerParams{}, Adapters: set}
		for d, err := range e.Generate(ctx, r) {
			if err != nil {
				log.Fatal(err)
			}
			answers[i] = append(answers[i], d.Tokens...)
		}
	}
	fmt.Println("the same:", slices.Equal(answers[0], answers[1]))
	// Output: the same: false
}
