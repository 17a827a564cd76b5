package engine_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// What an engine has read, a later one on the same directory, in this process or another one, does not compute again.
func ExampleCacheParams() {
	ctx := context.Background()
	model, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "prompts-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for range 2 {
		e, err := engine.Open(ctx, model.Path, engine.Params{NCtx: 512, Cache: engine.CacheParams{Dir: dir}})
		if err != nil {
			log.Fatal(err)
		}
		r := engine.Request{Prompt: "Paris is the capital of France. Rome is the capital of Italy. The capital of Spain is", MaxTokens: 1, Sampling: &llama.SamplerParams{}}
		for d, err := range e.Generate(ctx, r) {
			if err != nil {
				log.Fatal(err)
			}
			if d.Result != nil {
				fmt.Println(d.Result.Usage.Cached, d.Result.Usage.Computed)
			}
		}
		if err := e.Close(); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 0 19
	// 18 1
}
