package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// The answer goes on where the last message of the assistant ends.
func ExampleEngine_Chat_prefill() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	messages := []llama.ChatMessage{
		{Role: "user", Content: "Which country has Paris as its capital?"},
		{Role: "assistant", Content: "Paris is the capital city of"},
	}
	for d, err := range e.Chat(ctx, engine.ChatRequest{Messages: messages, MaxTokens: 1, Sampling: &llama.SamplerParams{}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%q\n", d.Content)
	}
	// Output: " France"
}

// Models that think before they answer send it apart. EnableThinking asks them to, or not to; other variables of a template go
// into TemplateArgs.
func ExampleEngine_Chat_thinking() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	off := false
	r := engine.ChatRequest{
		Messages:       []llama.ChatMessage{{Role: "user", Content: "Is 91 prime?"}},
		EnableThinking: &off,
		TemplateArgs:   map[string]json.RawMessage{"reasoning_effort": json.RawMessage(`"low"`)},
		MaxTokens:      20,
	}
	for d, err := range e.Chat(ctx, r) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(d.Reasoning, d.Content)
	}
}
