package chatoracle

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Case is one rendering of test-chat.cpp; its number is its place. It has no vocabulary: the template's BOS and EOS are empty.
type Case struct {
	Template string `json:"template"`
	// Media says that a message has more than text, which this module does not take.
	Media  bool       `json:"media"`
	Inputs caseInputs `json:"inputs"`
	Prompt Prompt     `json:"prompt"`
	// Answer is what the test reads as an answer to the prompt, nil where it reads none.
	Answer *Answer `json:"answer"`
}

// Answer is a text of a model, all of it or a beginning, and the message in it. Both are asserted by test-chat.cpp.
type Answer struct {
	Input   string  `json:"input"`
	Partial bool    `json:"partial"`
	Message message `json:"message"`
}

type message struct {
	Content   string `json:"content"`
	Reasoning string `json:"reasoning_content"`
	ToolCalls []struct {
		ID        string `json:"id"`
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"tool_calls"`
}

type caseInputs struct {
	Messages []oaiMessage `json:"messages"`
	Tools    []struct {
		Name        string `json:"name"`
		Description string `json:"description"`
		Parameters  string `json:"parameters"`
	} `json:"tools"`
	ToolChoice           int                        `json:"tool_choice"`
	ParallelToolCalls    bool                       `json:"parallel_tool_calls"`
	Schema               string                     `json:"json_schema"`
	Grammar              string                     `json:"grammar"`
	AddGenerationPrompt  bool                       `json:"add_generation_prompt"`
	ContinueFinalMessage int                        `json:"continue_final_message"`
	EnableThinking       bool                       `json:"enable_thinking"`
	ReasoningFormat      int                        `json:"reasoning_format"`
	Args                 map[string]json.RawMessage `json:"kwargs"`
	Now                  int64                      `json:"now"`
}

// Cases runs test-chat.cpp.
func Cases(t testing.TB) []Case {
	t.Helper()
	var all []Case
	for d := ask(t, "cases", nil); d.More(); {
		var c Case
		if err := d.Decode(&c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// Request is the case in our form.
func (c *Case) Request() llama.ChatTemplateRequest {
	in := &c.Inputs
	r := llama.ChatTemplateRequest{
		ToolChoice:           []string{"auto", "required", "none"}[in.ToolChoice],
		ParallelToolCalls:    in.ParallelToolCalls,
		Schema:               json.RawMessage(in.Schema),
		Grammar:              in.Grammar,
		AddGenerationPrompt:  in.AddGenerationPrompt,
		EnableThinking:       &in.EnableThinking,
		Args:                 in.Args,
		ContinueFinalMessage: []string{"", "auto", "reasoning_content", "content"}[in.ContinueFinalMessage],
		ReasoningFormat:      []string{"none", "auto", "deepseek-legacy", "deepseek"}[in.ReasoningFormat],
		Now:                  time.Unix(in.Now, 0),
	}
	for _, m := range in.Messages {
		r.Messages = append(r.Messages, m.message())
	}
	for _, t := range in.Tools {
		r.Tools = append(r.Tools, llama.Tool{Name: t.Name, Description: t.Description, Parameters: json.RawMessage(t.Parameters)})
	}
	return r
}

// Want is the message of the answer.
func (a *Answer) Want() llama.ChatMessage {
	m := llama.ChatMessage{Role: "assistant", Content: a.Message.Content, ReasoningContent: a.Message.Reasoning}
	for _, c := range a.Message.ToolCalls {
		m.ToolCalls = append(m.ToolCalls, llama.ToolCall{ID: c.ID, Name: c.Name, Arguments: c.Arguments})
	}
	return m
}
