package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// Output by a JSON schema. GenerateInto does the same for a Go type.
func ExampleRequest_schema() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	r := engine.Request{
		Prompt:   "The capital of France, as JSON: ",
		Schema:   json.RawMessage(`{"type":"object","properties":{"capital":{"enum":["Lyon","Paris"]}},"required":["capital"],"additionalProperties":false}`),
		Sampling: &llama.SamplerParams{}, MaxTokens: 30,
	}
	var text []byte
	for d, err := range e.Generate(ctx, r) {
		if err != nil {
			log.Fatal(err)
		}
		text = append(text, d.Text...)
	}
	var v struct{ Capital string }
	if err := json.Unmarshal(text, &v); err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.Capital)
	// Output: Paris
}

// Output by a grammar in GBNF, llama.cpp's notation.
func ExampleRequest_grammar() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	r := engine.Request{Prompt: "Paris is in France: ", Grammar: `root ::= ("yes" | "no") "!"`, Sampling: &llama.SamplerParams{}}
	text := ""
	for d, err := range e.Generate(ctx, r) {
		if err != nil {
			log.Fatal(err)
		}
		text += d.Text
	}
	fmt.Println(text == "yes!" || text == "no!")
	// Output: true
}

// A token that is forbidden, and one that is made likelier.
func ExampleRequest_logitBias() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	token := func(text string) llama.Token {
		tokens, err := e.Model().Vocab().Tokenize(text, false, false)
		if err != nil {
			log.Fatal(err)
		}
		return tokens[0]
	}
	sampling := &llama.SamplerParams{LogitBias: map[llama.Token]float32{token(" Paris"): float32(math.Inf(-1)), token(" Lyon"): 20}}
	for d, err := range e.Generate(ctx, engine.Request{Prompt: "The capital of France is", MaxTokens: 1, Sampling: sampling}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(d.Text)
	}
	// Output: Lyon
}
