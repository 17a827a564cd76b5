// Command tools lets the model call Go functions. The calls are constrained by each function's schema, so that even a small
// model writes only calls that can be run.
//
//	go run ./examples/tools 'How many letters does the word strawberry have?'
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// tools are what the model may call, and functions what is run then. Each takes one word.
var (
	word  = json.RawMessage(`{"type":"object","properties":{"word":{"type":"string","maxLength":40}},"required":["word"]}`)
	tools = []llama.Tool{
		{Name: "count_letters", Description: "Counts the letters of a word.", Parameters: word},
		{Name: "reverse", Description: "Spells a word backwards.", Parameters: word},
	}
	functions = map[string]func(word string) string{
		"count_letters": func(word string) string { return strconv.Itoa(utf8.RuneCountInString(word)) },
		"reverse": func(word string) string {
			letters := []rune(word)
			slices.Reverse(letters)
			return string(letters)
		},
	}
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	question := strings.Join(os.Args[1:], " ")
	if question == "" {
		question = "How many letters does the word strawberry have?"
	}
	if err := answer(ctx, question); err != nil {
		fmt.Fprintln(os.Stderr, "tools:", err)
		os.Exit(1)
	}
}

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

	messages := []llama.ChatMessage{{Role: "user", Content: question}}
	for _, choice := range []string{"required", "none"} { // one call, then the answer
		m, err := next(ctx, e, messages, choice)
		if err != nil {
			return err
		}
		messages = append(messages, m)
		for _, call := range m.ToolCalls {
			var args struct{ Word string }
			if err := json.Unmarshal([]byte(call.Arguments), &args); err != nil {
				return err
			}
			result := functions[call.Name](args.Word)
			fmt.Printf("%s(%q) = %s\n", call.Name, args.Word, result)
			messages = append(messages, llama.ChatMessage{Role: "tool", Name: call.Name, ToolCallID: call.ID, Content: result})
		}
	}
	fmt.Println(messages[len(messages)-1].Content)
	return nil
}

// next asks for the next message and joins its pieces.
func next(ctx context.Context, e *engine.Engine, messages []llama.ChatMessage, choice string) (llama.ChatMessage, error) {
	m := llama.ChatMessage{Role: "assistant"}
	for delta, err := range e.Chat(ctx, engine.ChatRequest{
		Messages: messages, Tools: tools, ToolChoice: choice, MaxTokens: 100,
		Sampling: &llama.SamplerParams{}, // greedy: the same answer every time
	}) {
		if err != nil {
			return m, err
		}
		m.Content += delta.Content
		for _, c := range delta.ToolCalls {
			if c.Index == len(m.ToolCalls) {
				m.ToolCalls = append(m.ToolCalls, llama.ToolCall{ID: c.ID, Name: c.Name})
			}
			m.ToolCalls[c.Index].Arguments += c.Arguments
		}
	}
	return m, nil
}
