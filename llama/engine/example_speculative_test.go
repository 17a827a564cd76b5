package engine_test

import (
	"context"
	"fmt"
	"log"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// A text that is repeated is guessed from its first time.
func ExampleSpeculative() {
	ctx := context.Background()
	m, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	e, err := engine.Open(ctx, m.Path, engine.Params{NCtx: 1024, NThreads: 1, Speculative: engine.Speculative{NGram: 3}})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	prompt := "one two three four five six seven eight. one two three four five six seven eight. one two three"
	for d, err := range e.Generate(ctx, engine.Request{Prompt: prompt, MaxTokens: 5, Sampling: &llama.SamplerParams{}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(d.Text)
		if d.Result != nil {
			fmt.Println("\nguessed:", d.Result.Usage.Accepted > 0)
		}
	}
	// Output:
	//  four five six seven eight
	// guessed: true
}

// A smaller model with the same vocabulary guesses: here, as one is at hand, the model itself, which guesses all.
func ExampleSpeculative_draftModel() {
	ctx := context.Background()
	m, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	e, err := engine.Open(ctx, m.Path, engine.Params{NCtx: 1024, NThreads: 1, Speculative: engine.Speculative{DraftModel: m.Path}})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	for d, err := range e.Generate(ctx, engine.Request{Prompt: "The capital of France is", MaxTokens: 8, Sampling: &llama.SamplerParams{}}) {
		if err != nil {
			log.Fatal(err)
		}
		if d.Result != nil {
			fmt.Println("guessed:", d.Result.Usage.Accepted > 0)
		}
	}
	// Output: guessed: true
}
