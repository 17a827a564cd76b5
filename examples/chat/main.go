// Command chat talks with a language model that remembers the conversation.
//
//	go run ./examples/chat
package main

import (
	"bufio"
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
	if err := chat(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

// chat answers each line of stdin until it ends.
func chat(ctx context.Context) (err error) {
	model, err := hub.Pull(ctx, os.Getenv("LM_SANDBOX_MODEL"), hub.Options{})
	if err != nil {
		return err
	}
	e, err := engine.Open(ctx, model.Path, engine.Params{MaxSequences: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()

	var messages []llama.ChatMessage
	input := bufio.NewScanner(os.Stdin)
	for fmt.Print("> "); input.Scan(); fmt.Print("\n> ") {
		messages = append(messages, llama.ChatMessage{Role: "user", Content: input.Text()})
		answer, err := reply(ctx, e, messages)
		if err != nil {
			return err
		}
		messages = append(messages, llama.ChatMessage{Role: "assistant", Content: answer})
	}
	return input.Err()
}

// reply streams the next message to stdout. Ctrl-C ends it early.
func reply(ctx context.Context, e *engine.Engine, messages []llama.ChatMessage) (string, error) {
	answering, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	var answer strings.Builder
	for delta, err := range e.Chat(answering, engine.ChatRequest{Messages: messages, MaxTokens: 256, Sampling: &llama.SamplerParams{}}) {
		if answering.Err() != nil {
			break
		}
		if err != nil {
			return "", err
		}
		fmt.Print(delta.Content)
		answer.WriteString(delta.Content)
	}
	return answer.String(), nil
}
