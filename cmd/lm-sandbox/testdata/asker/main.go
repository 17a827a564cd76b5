// Asker is a program that cannot be a worker itself: it has lm-sandbox in its PATH for that.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

func main() {
	ctx := context.Background()
	e, err := engine.Open(ctx, os.Args[1], engine.Params{Isolated: true, NCtx: 256, Model: llama.ModelParams{NGPULayers: llama.NoLayers}})
	if err != nil {
		log.Fatal(err)
	}
	r := engine.Request{Prompt: "The capital of France is", MaxTokens: 2, Sampling: &llama.SamplerParams{}}
	for d, err := range e.Generate(ctx, r) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(d.Text)
	}
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
}
