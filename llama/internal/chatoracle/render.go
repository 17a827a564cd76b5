package chatoracle

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Request asks llama.cpp to render.
type Request struct {
	Model    string // path of a GGUF file, for its vocabulary
	Template string
	Request  llama.ChatTemplateRequest
}

// Rendering is what llama.cpp makes of a [Request], or its error.
type Rendering struct {
	Prompt Prompt        `json:"prompt"`
	Tokens []llama.Token `json:"tokens"` // of the text, special tokens parsed
	Error  string        `json:"error"`
}

// oaiMessage is a message in OpenAI's JSON.
type oaiMessage struct {
	Role       string        `json:"role"`
	Content    string        `json:"content"`
	Reasoning  string        `json:"reasoning_content,omitempty"`
	Name       string        `json:"name,omitempty"`
	ToolCallID string        `json:"tool_call_id,omitempty"`
	ToolCalls  []oaiToolCall `json:"tool_calls,omitempty"`
}

type oaiToolCall struct {
	Type     string `json:"type"`
	ID       string `json:"id"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

func (m oaiMessage) message() llama.ChatMessage {
	out := llama.ChatMessage{Role: m.Role, Content: m.Content, ReasoningContent: m.Reasoning, Name: m.Name, ToolCallID: m.ToolCallID}
	for _, c := range m.ToolCalls {
		out.ToolCalls = append(out.ToolCalls, llama.ToolCall{ID: c.ID, Name: c.Function.Name, Arguments: c.Function.Arguments})
	}
	return out
}

func oaiOf(m llama.ChatMessage) oaiMessage {
	out := oaiMessage{Role: m.Role, Content: m.Content, Reasoning: m.ReasoningContent, Name: m.Name, ToolCallID: m.ToolCallID}
	for _, c := range m.ToolCalls {
		call := oaiToolCall{Type: "function", ID: c.ID}
		call.Function.Name, call.Function.Arguments = c.Name, c.Arguments
		out.ToolCalls = append(out.ToolCalls, call)
	}
	return out
}

// Render asks for all requests at once.
func Render(t testing.TB, requests []Request) []Rendering {
	t.Helper()
	var in bytes.Buffer
	e := json.NewEncoder(&in)
	e.SetEscapeHTML(false)
	for _, r := range requests {
		if err := e.Encode(r.line()); err != nil {
			t.Fatal(err)
		}
	}
	var all []Rendering
	for d := ask(t, "render", &in); d.More(); {
		var r Rendering
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if len(all) != len(requests) {
		t.Fatalf("%d requests, %d renderings", len(requests), len(all))
	}
	return all
}

func (r *Request) line() map[string]any {
	in := &r.Request
	messages := []oaiMessage{}
	for _, m := range in.Messages {
		messages = append(messages, oaiOf(m))
	}
	tools := []any{}
	for _, t := range in.Tools {
		tools = append(tools, map[string]any{"type": "function", "function": map[string]any{"name": t.Name, "description": t.Description, "parameters": t.Parameters}})
	}
	line := map[string]any{
		"model": r.Model, "template": r.Template, "messages": messages, "tools": tools, "tool_choice": "auto",
		"parallel_tool_calls": in.ParallelToolCalls, "add_generation_prompt": in.AddGenerationPrompt,
		"continue_final_message": any(in.ContinueFinalMessage), "kwargs": map[string]json.RawMessage{}, "now": in.Now.Unix(),
	}
	if in.ToolChoice != "" {
		line["tool_choice"] = in.ToolChoice
	}
	if in.ContinueFinalMessage == "auto" {
		line["continue_final_message"] = true
	}
	if in.Args != nil {
		line["kwargs"] = in.Args
	}
	if in.EnableThinking != nil {
		line["enable_thinking"] = *in.EnableThinking
	}
	return line
}
