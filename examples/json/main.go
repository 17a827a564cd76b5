// Command json turns a sentence into a Go value. The model can write nothing but JSON of the type's schema.
//
//	go run ./examples/json 'In 1912 Alan Turing was born in London.'
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// person is what is wanted. The schema is made of the type: names and order of the properties from it, descriptions from
// the jsonschema tags; omitempty makes one optional.
type person struct {
	Name       string `json:"name" jsonschema:"full name"`
	Born       int    `json:"born" jsonschema:"year of birth"`
	Birthplace string `json:"birthplace"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	sentence := strings.Join(os.Args[1:], " ")
	if sentence == "" {
		sentence = "Emmy Noether, a mathematician from Erlangen, was born in 1882."
	}
	if err := extract(ctx, sentence); err != nil {
		fmt.Fprintln(os.Stderr, "json:", err)
		os.Exit(1)
	}
}

func extract(ctx context.Context, sentence string) (err error) {
	// The default model is downloaded once; $LM_SANDBOX_MODEL names another.
	model, err := hub.Pull(ctx, os.Getenv("LM_SANDBOX_MODEL"), hub.Options{})
	if err != nil {
		return err
	}
	e, err := engine.Open(ctx, model.Path, engine.Params{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()

	p, result, err := engine.GenerateInto[person](ctx, e, engine.ChatRequest{
		Messages: []llama.ChatMessage{
			{Role: "user", Content: "Isaac Newton was born in Woolsthorpe in 1643."}, // one example helps a small model
			{Role: "assistant", Content: `{"name":"Isaac Newton","born":1643,"birthplace":"Woolsthorpe"}`},
			{Role: "user", Content: sentence},
		},
		MaxTokens: 100,
		Sampling:  &llama.SamplerParams{}, // greedy: the same answer every time
	})
	if err != nil {
		return err
	}
	fmt.Printf("%+v\nborn %d years before 2000\n", p, 2000-p.Born)
	fmt.Fprintf(os.Stderr, "[%s: %d tokens written]\n", model.Name, result.Usage.Output)
	return nil
}
