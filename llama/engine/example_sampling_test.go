package engine_test

import (
	"context"
	"fmt"
	"log"
	"math"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

func ExampleRequest_regex() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	r := engine.Request{Prompt: "The first moon landing was in the year ", Regex: `19\d\d`, Sampling: &llama.SamplerParams{}}
	text := ""
	for d, err := range e.Generate(ctx, r) {
		if err != nil {
			log.Fatal(err)
		}
		text += d.Text
	}
	fmt.Println(len(text), text[:2])
	// Output: 4 19
}

func ExampleRequest_choices() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	r := engine.Request{Prompt: "The capital of France is ", Choices: []string{"London", "Paris"}, Sampling: &llama.SamplerParams{}}
	for d, err := range e.Generate(ctx, r) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(d.Text)
	}
	// Output: Paris
}

func ExampleRequest_n() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	r := engine.Request{Prompt: "Once upon a time", N: 3, MaxTokens: 4, Logprobs: 1}
	tokens := make([]int, r.N)
	for d, err := range e.Generate(ctx, r) {
		if err != nil {
			log.Fatal(err)
		}
		for _, p := range d.Logprobs {
			if p.Logprob <= 0 { // p.Text is its text
				tokens[d.Index]++
			}
		}
	}
	fmt.Println(len(tokens))
	// Output: 3
}

// A processor that bans a word.
func ExampleLogitsProcessor() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	banned, err := e.Model().Vocab().Tokenize(" Paris", false, false)
	if err != nil {
		log.Fatal(err)
	}
	ban := func(_ []llama.Token, logits []float32) error {
		logits[banned[0]] = float32(math.Inf(-1))
		return nil
	}
	r := engine.Request{Prompt: "The capital of France is", MaxTokens: 8, Sampling: &llama.SamplerParams{}, Processor: ban}
	for d, err := range e.Generate(ctx, r) {
		if err != nil {
			log.Fatal(err)
		}
		for _, t := range d.Tokens {
			if t == banned[0] {
				fmt.Println("said it")
			}
		}
	}
	// Output:
}
