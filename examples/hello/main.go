// Command hello answers a question with a language model inside this process.
//
//	go run ./examples/hello 'Why is the sky blue?'
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

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	question := strings.Join(os.Args[1:], " ")
	if question == "" {
		question = "What is the capital of France, and what is it known for?"
	}
	if err := answer(ctx, question); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

// answer streams the model's answer to stdout, and how fast it came to stderr.
func answer(ctx context.Context, question string) (err error) {
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

	fmt.Printf("> %s\n", question)
	for delta, err := range e.Chat(ctx, engine.ChatRequest{
		Messages:  []llama.ChatMessage{{Role: "user", Content: question}},
		MaxTokens: 64,
		Sampling:  &llama.SamplerParams{}, // greedy: the same answer every time
	}) {
		if err != nil {
			return err
		}
		fmt.Print(delta.Content)
		if r := delta.Result; r != nil {
			fmt.Println()
			rate := float64(r.Usage.Output) / (r.Timings.Prompt + r.Timings.Decode).Seconds()
			fmt.Fprintf(os.Stderr, "[%s: %d tokens read, %d written, %.0f a second]\n", model.Name, r.Usage.Prompt, r.Usage.Output, rate)
		}
	}
	return nil
}
