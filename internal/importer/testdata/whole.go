package main

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/gpu"
	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

func main() {
	ctx := context.Background()
	model, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	e, err := engine.Open(ctx, model.Path, engine.Params{NCtx: 512})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	var answer strings.Builder
	for delta, err := range e.Chat(ctx, engine.ChatRequest{
		Messages:  []llama.ChatMessage{{Role: "user", Content: "What is the capital of France, and what is it known for?"}},
		MaxTokens: 8, Sampling: &llama.SamplerParams{},
	}) {
		if err != nil {
			log.Fatal(err)
		}
		answer.WriteString(delta.Content)
	}
	res, err := sandbox.Run(ctx, sandbox.Config{Stdin: strings.NewReader(answer.String())}, "tr a-z A-Z")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s%s\n", res.Stdout, res.Stderr)
	report, err := gpu.Check(gpu.Requirements{})
	fmt.Println("gpu:", report, err)
}
