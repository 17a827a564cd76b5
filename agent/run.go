package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// Run does a task. Each range over the iterator is a run of its own, in the goroutine of
// its consumer. The last pair is [Done] with the answer, or an error with Done beside it
// (nil where nothing began). Leaving the loop ends the run. When the range statement is
// left the session is closed, with all that was started in it.
//
// # Errors
//
//   - the error of ctx; [*ErrLimit], [*ErrInvalid]
//   - [*ErrPanic] of a tool, and what [Fatal] marks: of bash a [*sandbox.ErrShellExited]
//   - the error of Config.Approve
//   - those of [engine.Engine.Chat] and of [sandbox.NewSession]
func Run(ctx context.Context, c Config, task string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := cmp.Or(c.complete(task), ctx.Err()); err != nil {
			yield(nil, err)
			return
		}
		begin := time.Now()
		ctx, cancel := context.WithTimeoutCause(ctx, c.Wall, &ErrLimit{Limit: LimitWall})
		defer cancel()
		r := &run{config: c, tools: c.Tools, yield: yield, messages: c.conversation(task)}
		answer, err := r.do(ctx)
		if errors.Is(err, errLeft) {
			return
		}
		if limit := (*ErrLimit)(nil); err != nil && ctx.Err() != nil && errors.As(context.Cause(ctx), &limit) {
			err = limit // whatever the end of the time looked like
		}
		r.usage.Wall = time.Since(begin)
		yield(Done{Answer: answer, Usage: r.usage}, err)
	}
}

// errLeft says that the consumer has left the loop: there is nobody to tell.
var errLeft = errors.New("left")

// run is a run under way.
type run struct {
	config   Config
	tools    []Tool
	yield    func(Event, error) bool
	messages []llama.ChatMessage
	usage    Usage
}

// do makes the session and asks the model.
func (r *run) do(ctx context.Context) (answer string, err error) {
	if r.config.NoBash {
		return r.loop(ctx)
	}
	session, err := sandbox.NewSession(ctx, r.config.Sandbox)
	if err != nil {
		return "", err
	}
	defer func() {
		if failed := session.Close(); failed != nil {
			err = errors.Join(err, failed)
		}
	}()
	r.tools = append([]Tool{bash(session)}, r.tools...)
	return r.loop(ctx)
}

// conversation is what the model reads first.
func (c *Config) conversation(task string) []llama.ChatMessage {
	var messages []llama.ChatMessage
	if c.System != "" {
		messages = append(messages, llama.ChatMessage{Role: "system", Content: c.System})
	}
	for i, e := range c.Examples {
		call := llama.ToolCall{ID: fmt.Sprintf("example%02d", i+1), Name: bashName, Arguments: bashArguments(e.Command)}
		messages = append(messages,
			llama.ChatMessage{Role: "user", Content: e.Task},
			llama.ChatMessage{Role: "assistant", ToolCalls: []llama.ToolCall{call}},
			toolMessage(call, e.Output),
			llama.ChatMessage{Role: "assistant", Content: e.Answer})
	}
	return append(messages, llama.ChatMessage{Role: "user", Content: task})
}

// toolMessage tells the model a result. The engine sees to it that no text in it
// becomes a control token.
func toolMessage(c llama.ToolCall, output string) llama.ChatMessage {
	return llama.ChatMessage{Role: "tool", Name: c.Name, ToolCallID: c.ID, Content: output}
}

// loop asks the model until it answers.
func (r *run) loop(ctx context.Context) (answer string, err error) {
	for r.usage.Steps < r.config.MaxSteps {
		message, err := r.ask(ctx)
		if err != nil {
			return "", err
		}
		r.usage.Steps++
		if len(message.ToolCalls) == 0 {
			return message.Content, nil
		}
		r.messages = append(r.messages, message)
		for _, call := range message.ToolCalls {
			if err := r.call(ctx, call); err != nil {
				return "", err
			}
		}
	}
	return "", &ErrLimit{Limit: LimitSteps}
}

// ask gets the model's next message.
func (r *run) ask(ctx context.Context) (llama.ChatMessage, error) {
	if r.usage.Output >= r.config.MaxTokens {
		return llama.ChatMessage{}, &ErrLimit{Limit: LimitTokens}
	}
	request := engine.ChatRequest{
		Messages: r.messages, Sampling: r.config.Sampling, MaxTokens: r.config.MaxTokens - r.usage.Output,
	}
	for _, t := range r.tools {
		request.Tools = append(request.Tools, t.declaration())
	}
	var content, reasoning strings.Builder
	var calls []llama.ToolCall
	var result engine.Result
	for d, err := range r.config.Engine.Chat(ctx, request) {
		if d.Result != nil {
			result = *d.Result
			r.usage.Prompt += result.Usage.Prompt
			r.usage.Output += result.Usage.Output
		}
		var full *llama.ErrContextFull
		switch {
		case errors.As(err, &full):
			return llama.ChatMessage{}, &ErrLimit{Limit: LimitContext, Err: err}
		case err != nil:
			return llama.ChatMessage{}, err
		}
		content.WriteString(d.Content)
		reasoning.WriteString(d.Reasoning)
		for _, c := range d.ToolCalls {
			if c.Index == len(calls) {
				calls = append(calls, llama.ToolCall{ID: c.ID, Name: c.Name})
			}
			calls[c.Index].Arguments += c.Arguments
		}
		if (d.Content != "" || d.Reasoning != "") && !r.yield(Text{Content: d.Content, Reasoning: d.Reasoning}, nil) {
			return llama.ChatMessage{}, errLeft
		}
	}
	switch result.FinishReason { // half a call is none, half an answer is not what was asked for
	case engine.FinishLength:
		return llama.ChatMessage{}, &ErrLimit{Limit: LimitTokens}
	case engine.FinishContext:
		return llama.ChatMessage{}, &ErrLimit{Limit: LimitContext}
	}
	for i := range calls {
		if !json.Valid([]byte(calls[i].Arguments)) { // a template's own format, without a grammar: the tool will complain
			calls[i].Arguments = "{}"
		}
	}
	return llama.ChatMessage{Role: "assistant", Content: content.String(), ReasoningContent: reasoning.String(), ToolCalls: calls}, nil
}

// call makes one call, where it is approved, and tells the model how it ended.
func (r *run) call(ctx context.Context, c llama.ToolCall) error {
	call := Call{ID: c.ID, Tool: c.Name, Arguments: json.RawMessage(c.Arguments)}
	if !r.yield(call, nil) {
		return errLeft
	}
	approved := true
	if r.config.Approve != nil {
		var err error
		if approved, err = r.config.Approve(ctx, call); err != nil {
			return fmt.Errorf("agent: approval: %w", err)
		}
	}
	result := Result{Call: call, Refused: !approved}
	output := "The user refused this call."
	if approved {
		r.usage.Calls++
		begin := time.Now()
		output, result.Err = r.make(ctx, call)
		result.Duration = time.Since(begin)
		var end fatal
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(result.Err, &end):
			result.Err = end.error
			if !r.yield(result, nil) {
				return errLeft
			}
			return end.error
		case result.Err != nil:
			output = strings.TrimPrefix(output+"\nerror: "+result.Err.Error(), "\n")
		}
	}
	result.Output, result.LeftOut = shorten(output, r.config.MaxResult)
	r.messages = append(r.messages, toolMessage(c, result.Output))
	if !r.yield(result, nil) {
		return errLeft
	}
	return nil
}

// make runs the tool that the call names.
func (r *run) make(ctx context.Context, c Call) (string, error) {
	i := slices.IndexFunc(r.tools, func(t Tool) bool { return t.Name == c.Tool })
	if i < 0 {
		return "", fmt.Errorf("there is no tool %q", c.Tool)
	}
	return r.tools[i].run(ctx, c.Arguments)
}
