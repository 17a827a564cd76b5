package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// Batch work of many callers beside people who wait for their answers.
func ExampleRequest_priority() {
	ctx := context.Background()
	m, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	e, err := engine.Open(ctx, m.Path, engine.Params{
		NCtx: 4096, MaxSequences: 8, NThreads: 1,
		MaxCellsPerCaller: 2048, // nobody takes more than half of the cache
		MaxWait:           30 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	requests := []engine.Request{
		{Prompt: "A summary of the report:", MaxTokens: 16, IgnoreEOS: true, Caller: "batch", Priority: -10},
		{Prompt: "The capital of France is", MaxTokens: 16, IgnoreEOS: true, Caller: "anna"},
	}
	var wg sync.WaitGroup
	for _, r := range requests {
		wg.Go(func() {
			for d, err := range e.Generate(ctx, r) {
				switch {
				case errors.Is(err, engine.ErrBusy):
					log.Print("try again later: ", err)
				case err != nil:
					log.Fatal(err)
				case d.Result != nil:
					fmt.Println(r.Caller, d.Result.FinishReason)
				}
			}
		})
	}
	wg.Wait()
	// Unordered output:
	// anna length
	// batch length
}

// An answer that is longer than the context.
func ExampleRequest_contextShift() {
	ctx := context.Background()
	m, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	e, err := engine.Open(ctx, m.Path, engine.Params{NCtx: 256, MaxSequences: 1, NThreads: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	r := engine.Request{Prompt: "Once upon a time", MaxTokens: 260, IgnoreEOS: true, ContextShift: true}
	for d, err := range e.Generate(ctx, r) {
		if err != nil {
			log.Fatal(err)
		}
		if d.Result != nil {
			fmt.Println(d.Result.Usage.Output, d.Result.FinishReason)
		}
	}
	// Output: 260 length
}
