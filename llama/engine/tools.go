package engine

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Tools for models whose chat template knows none: the system message describes
// them, a JSON schema forces the answer into one of two shapes,
//
//	{"tool_calls": [{"name": "…", "arguments": {…}}]}
//	{"response": "…"}
//
// and toolParser reads it back. llama.cpp did this itself until it derived its
// parsers from the template; since then it ignores tools there.

const toolInstructions = `You can call these functions. Each line is one function, its parameters are a JSON schema:
%s
Answer with JSON only. To call a function, answer
{"tool_calls": [{"name": "the function", "arguments": {its parameters}}]}
and you get its result in the next message.`

const responseInstructions = ` To answer the user without a function, answer
{"response": "your text"}`

// withToolsInText rewrites a request so that a template without tools can
// render it: no Tools, a Schema instead.
func withToolsInText(r llama.ChatTemplateRequest) (llama.ChatTemplateRequest, error) {
	required := r.ToolChoice == "required"
	schema, err := toolSchema(r.Tools, required, r.ParallelToolCalls)
	if err != nil {
		return r, err
	}
	var list strings.Builder
	for _, t := range r.Tools {
		line, err := plainJSON(toolLine{t.Name, t.Description, parametersOf(t)})
		if err != nil {
			return r, invalid("ChatRequest.Tools", "%s: %v", t.Name, err)
		}
		list.WriteString(line + "\n")
	}
	text := fmt.Sprintf(toolInstructions, strings.TrimSuffix(list.String(), "\n"))
	if !required {
		text += responseInstructions
	}
	messages := make([]llama.ChatMessage, 0, len(r.Messages)+1)
	if len(r.Messages) == 0 || r.Messages[0].Role != "system" {
		messages = append(messages, llama.ChatMessage{Role: "system", Content: text})
	}
	for i, m := range r.Messages {
		switch {
		case i == 0 && m.Role == "system":
			m.Content += "\n\n" + text
		case m.Role == "assistant":
			m, err = answerAsText(m)
		case m.Role == "tool":
			m, err = toolResultAsText(m)
		}
		if err != nil {
			return r, invalid(fmt.Sprintf("ChatRequest.Messages[%d]", i), "%v", err)
		}
		messages = append(messages, m)
	}
	r.Messages, r.Schema, r.Tools, r.ToolChoice = messages, schema, nil, ""
	return r, nil
}

type toolLine struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters"`
}

type toolCallText struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
}

type toolAnswer struct {
	ToolCalls []toolCallText `json:"tool_calls,omitempty"`
	Response  string         `json:"response,omitempty"`
}

// answerAsText shows the model its own earlier answers in the shape that it is
// asked for now.
func answerAsText(m llama.ChatMessage) (llama.ChatMessage, error) {
	a := toolAnswer{Response: m.Content}
	for _, c := range m.ToolCalls {
		arguments := json.RawMessage(c.Arguments)
		if len(arguments) == 0 {
			arguments = json.RawMessage("{}")
		}
		a.ToolCalls = append(a.ToolCalls, toolCallText{c.Name, arguments})
	}
	if len(a.ToolCalls) > 0 {
		a.Response = ""
	}
	text, err := plainJSON(a)
	m.Content, m.ToolCalls = text, nil
	return m, err
}

func toolResultAsText(m llama.ChatMessage) (llama.ChatMessage, error) {
	text, err := plainJSON(struct {
		Name   string `json:"name,omitempty"`
		Result string `json:"result"`
	}{m.Name, m.Content})
	return llama.ChatMessage{Role: "user", Content: text}, err
}

// plainJSON is JSON for a model to read: "<" stays "<".
func plainJSON(v any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

func parametersOf(t llama.Tool) json.RawMessage {
	if len(t.Parameters) == 0 {
		return json.RawMessage(`{"type":"object"}`)
	}
	return t.Parameters
}

// The parts of a schema, as structs because the order of properties is the
// order in which the model must write them.
type (
	objectSchema struct {
		Type       string   `json:"type"`
		Properties any      `json:"properties"`
		Required   []string `json:"required"`
		Closed     bool     `json:"additionalProperties"`
	}
	callProperties struct {
		Name      any `json:"name"`
		Arguments any `json:"arguments"`
	}
	arraySchema struct {
		Type     string `json:"type"`
		Items    any    `json:"items"`
		MinItems int    `json:"minItems"`
		MaxItems int    `json:"maxItems"`
	}
)

// maxParallelCalls bounds the calls of one answer.
const maxParallelCalls = 16

func toolSchema(tools []llama.Tool, required, parallel bool) (json.RawMessage, error) {
	definitions := map[string]json.RawMessage{}
	var calls []any
	for i, t := range tools {
		key := fmt.Sprintf("tool%d", i)
		parameters, err := moveRefs(parametersOf(t), "#/$defs/"+key)
		if err != nil {
			return nil, invalid(fmt.Sprintf("ChatRequest.Tools[%d].Parameters", i), "not a JSON schema: %v", err)
		}
		definitions[key] = parameters
		calls = append(calls, objectSchema{
			Type: "object",
			Properties: callProperties{
				Name:      map[string]any{"const": t.Name},
				Arguments: map[string]any{"$ref": "#/$defs/" + key},
			},
			Required: []string{"name", "arguments"},
		})
	}
	most := 1
	if parallel {
		most = maxParallelCalls
	}
	answers := []any{objectSchema{
		Type:       "object",
		Properties: map[string]any{"tool_calls": arraySchema{"array", map[string]any{"anyOf": calls}, 1, most}},
		Required:   []string{"tool_calls"},
	}}
	if !required {
		answers = append(answers, objectSchema{
			Type:       "object",
			Properties: map[string]any{"response": map[string]any{"type": "string"}},
			Required:   []string{"response"},
		})
	}
	return json.Marshal(map[string]any{"anyOf": answers, "$defs": definitions})
}
