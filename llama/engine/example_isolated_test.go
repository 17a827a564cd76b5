package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// A program whose main begins with engine.RunWorker() is its own worker: a crash of
// llama.cpp is an error of the requests.
func ExampleParams_isolated() {
	ctx := context.Background()
	m, err := hub.Pull(ctx, "", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	e, err := engine.Open(ctx, m.Path, engine.Params{Isolated: true, NCtx: 512, NThreads: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	r := engine.Request{Prompt: "The capital of France is", MaxTokens: 1, Sampling: &llama.SamplerParams{}}
	for d, err := range e.Generate(ctx, r) {
		var died *engine.ErrWorkerDied
		switch {
		case errors.As(err, &died):
			log.Println("try again:", died)
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Print(d.Text)
		}
	}
	// Output: Paris
}
