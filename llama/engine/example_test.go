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

// open makes an engine of the default model, which is pulled at first use.
func open(ctx context.Context) *engine.Engine {
	m, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	e, err := engine.Open(ctx, m.Path, engine.Params{NCtx: 1024, NThreads: 1})
	if err != nil {
		log.Fatal(err)
	}
	return e
}

func ExampleEngine_Generate() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	greedy := &llama.SamplerParams{}
	for d, err := range e.Generate(ctx, engine.Request{Prompt: "The capital of France is", MaxTokens: 8, Stop: []string{"."}, Sampling: greedy}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(d.Text)
		if d.Result != nil {
			fmt.Println(" /", d.Result.FinishReason)
		}
	}
	// Output: Paris / stop
}

func ExampleEngine_Chat() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	messages := []llama.ChatMessage{{Role: "user", Content: "What is the capital of France? One sentence."}}
	for d, err := range e.Chat(ctx, engine.ChatRequest{Messages: messages, MaxTokens: 100, Sampling: &llama.SamplerParams{}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(d.Content)
	}
	// Output: The capital of France is Paris.
}

// How long a conversation is, before anything is computed.
func ExampleEngine_CountTokens() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	n, err := e.CountTokens(ctx, engine.ChatRequest{Messages: []llama.ChatMessage{{Role: "user", Content: "Hello!"}}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n)
	// Output: 32
}

func ExampleEngine_Chat_tools() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	weather := llama.Tool{
		Name: "get_weather", Description: "The weather in a city now.",
		Parameters: json.RawMessage(`{"type":"object","properties":{"unit":{"enum":["celsius"]}},"required":["unit"]}`),
	}
	request := engine.ChatRequest{
		Messages: []llama.ChatMessage{{Role: "user", Content: "How warm is it?"}},
		Tools:    []llama.Tool{weather}, ToolChoice: "required",
		Sampling: &llama.SamplerParams{}, MaxTokens: 100,
	}
	for d, err := range e.Chat(ctx, request) {
		if err != nil {
			log.Fatal(err)
		}
		for _, c := range d.ToolCalls {
			if c.Name != "" {
				fmt.Println("call", c.Name)
			}
		}
		if d.Result != nil {
			fmt.Println(d.Result.FinishReason)
		}
	}
	// Output:
	// call get_weather
	// tool_calls
}

func ExampleGenerateInto() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	type answer struct {
		IsCapital bool `json:"is_capital" jsonschema:"whether the city is the capital of its country"`
	}
	messages := []llama.ChatMessage{{Role: "user", Content: "Is Paris the capital of France? Answer in JSON."}}
	v, _, err := engine.GenerateInto[answer](ctx, e, engine.ChatRequest{Messages: messages, Sampling: &llama.SamplerParams{}, MaxTokens: 50})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(v.IsCapital)
	// Output: true
}
