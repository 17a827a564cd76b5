package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
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
	var content string
	for d, err := range e.Chat(ctx, engine.ChatRequest{Messages: messages, MaxTokens: 1, Sampling: &llama.SamplerParams{}}) {
		if err != nil {
			log.Fatal(err)
		}
		content += d.Content // the last delta may have none, and only say how the answer ended
	}
	fmt.Printf("%q\n", content)
	// Output: " France"
}

// Models that think before they answer send it apart. EnableThinking asks them to, or not to; other variables of a template go
// into TemplateArgs. The budget ends what does not end by itself.
func ExampleEngine_Chat_thinking() {
	ctx := context.Background()
	m, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	e, err := engine.Open(ctx, m.Path, engine.Params{NCtx: 1024, NThreads: 1, ChatTemplate: thinking}) // the default model has no such template
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	on, budget := true, 10
	r := engine.ChatRequest{
		Messages:        []llama.ChatMessage{{Role: "user", Content: "Why is the sky blue?"}},
		EnableThinking:  &on,
		TemplateArgs:    map[string]json.RawMessage{"reasoning_effort": json.RawMessage(`"low"`)},
		ReasoningBudget: &budget,
		MaxTokens:       40, Sampling: &llama.SamplerParams{},
	}
	var reasoning, content string
	for d, err := range e.Chat(ctx, r) {
		if err != nil {
			log.Fatal(err)
		}
		reasoning += d.Reasoning
		content += d.Content
	}
	fmt.Println("thought:", reasoning != "", "answered:", content != "")
	// Output: thought: true answered: true
}
