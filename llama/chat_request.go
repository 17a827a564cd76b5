package llama

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
)

// ChatTemplateRequest is what a prompt is made of.
type ChatTemplateRequest struct {
	Messages []ChatMessage
	Tools    []Tool
	// ToolChoice is "auto" (also when empty), "none" or "required".
	ToolChoice        string
	ParallelToolCalls bool
	// Schema constrains the answer to JSON of this schema; not together with Grammar.
	Schema json.RawMessage
	// Grammar in GBNF constrains the answer; not together with Tools or Schema.
	Grammar string
	// AddGenerationPrompt ends the prompt where the assistant's answer begins.
	AddGenerationPrompt bool
	// ContinueFinalMessage ends the prompt within the last message, an assistant's without tool calls, so that the answer
	// goes on with it: in its "content", its "reasoning_content", or "auto", which is the reasoning where there is no content
	// yet. Empty = no. AddGenerationPrompt does not matter then.
	ContinueFinalMessage string
	// EnableThinking is passed to templates that know it; nil = true.
	EnableThinking *bool
	// Args are further variables of the template (chat_template_kwargs); for enable_thinking there is EnableThinking.
	Args map[string]json.RawMessage
	// ReasoningFormat says what the answer's parser does with reasoning: "deepseek" (also when empty) and "auto" set it
	// apart, "none" leaves it in the content, "deepseek-legacy" does both in a stream (common_reasoning_format).
	ReasoningFormat string
	// Now is the time that templates may show; zero = now.
	Now time.Time
}

// check refuses what a template could not tell from its own text, and what would crash or abort the process.
func (r *ChatTemplateRequest) check() error {
	if len(r.Messages) == 0 {
		return errorf(ErrInvalidMessage, "no messages")
	}
	for i := range r.Messages {
		if err := r.Messages[i].check(); err != nil {
			return within(err, "message %d", i)
		}
	}
	var cost schemaCost
	for i := range r.Tools {
		c, err := r.Tools[i].check()
		if err != nil {
			return within(err, "tool %d", i)
		}
		cost.add(c, 1)
	}
	if err := cost.check(); err != nil {
		return errorf(ErrInvalidSchema, "the schemas of all tools together: %v", err)
	}
	switch r.ToolChoice {
	case "", "auto", "none", "required":
	default:
		return errorf(ErrInvalidParam, "ToolChoice %q: want auto, none or required", r.ToolChoice)
	}
	switch r.ReasoningFormat {
	case "", "none", "auto", "deepseek", "deepseek-legacy":
	default:
		return errorf(ErrInvalidParam, "ReasoningFormat %q: want none, auto, deepseek or deepseek-legacy", r.ReasoningFormat)
	}
	switch r.ContinueFinalMessage {
	case "":
	case "auto", "content", "reasoning_content":
		if err := checkContinued(&r.Messages[len(r.Messages)-1]); err != nil {
			return err
		}
	default:
		return errorf(ErrInvalidParam, "ContinueFinalMessage %q: want auto, content or reasoning_content", r.ContinueFinalMessage)
	}
	if r.Grammar != "" {
		if len(r.Schema) > 0 || len(r.Tools) > 0 && r.ToolChoice != "none" {
			return errorf(ErrInvalidParam, "Grammar cannot be used with Schema or Tools")
		}
		if err := checkGrammarText(r.Grammar); err != nil {
			return err
		}
	}
	if len(r.Schema) > 0 {
		if _, err := checkSchema(r.Schema, true); err != nil {
			return err
		}
	}
	for name, v := range r.Args {
		if name == "messages" || name == "tools" { // those that were checked would be replaced
			return errorf(ErrInvalidParam, "Args[%q]: set the field of the request", name)
		}
		if err := checkJSON(v); err != nil {
			return errorf(ErrInvalidParam, "Args[%q]: %v", name, err)
		}
	}
	return nil
}

// checkContinued refuses messages that llama.cpp would drop, or go on with in no defined way.
func checkContinued(last *ChatMessage) error {
	switch {
	case last.Role != "assistant":
		return errorf(ErrInvalidMessage, "ContinueFinalMessage: the last message is of the role %s, only an assistant's can be continued", last.Role)
	case len(last.ToolCalls) > 0:
		return errorf(ErrInvalidMessage, "ContinueFinalMessage: a message with tool calls cannot be continued")
	case last.Content == "" && last.ReasoningContent == "":
		return errorf(ErrInvalidMessage, "ContinueFinalMessage: the last message is empty: leave it out")
	}
	return nil
}

// arguments of a call without any are an empty object, as tools without parameters get them.
func (c *ToolCall) arguments() []byte {
	if strings.TrimSpace(c.Arguments) == "" {
		return []byte("{}")
	}
	return []byte(c.Arguments)
}

func validUTF8(raw []byte) []byte { return bytes.ToValidUTF8(raw, []byte("\uFFFD")) }

func (m *ChatMessage) check() error {
	switch m.Role {
	case "system", "developer", "user", "assistant", "tool":
	default: // templates write the role between control characters
		return errorf(ErrInvalidMessage, "role %q: want system, developer, user, assistant or tool", m.Role)
	}
	if len(m.ToolCalls) > 0 && m.Role != "assistant" {
		return errorf(ErrInvalidMessage, "role %q: only an assistant calls tools", m.Role)
	}
	for i := range m.ToolCalls {
		c := &m.ToolCalls[i]
		if err := checkToolName(c.Name); err != nil {
			return err
		}
		if err := checkJSON(c.arguments()); err != nil {
			return errorf(ErrInvalidMessage, "tool call %d: arguments: %v", i, err)
		}
	}
	return nil
}

// check lets patterns pass that llama.cpp does not enforce: tools of other programs have them.
func (t *Tool) check() (schemaCost, error) {
	if err := checkToolName(t.Name); err != nil {
		return schemaCost{}, err
	}
	if len(t.Parameters) == 0 {
		return schemaCost{}, nil
	}
	return checkSchema(t.Parameters, false)
}

// checkToolName holds names to what cannot be taken for a control text of any template.
func checkToolName(name string) error {
	bad := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("_-.:/", c)
	}
	if name == "" || len(name) > 128 || strings.ContainsFunc(name, bad) {
		return errorf(ErrInvalidMessage, "tool name %.40q: want 1 to 128 of A-Z a-z 0-9 _ - . : /", name)
	}
	return nil
}

// texts are all strings of the request, in which the marks must not occur.
func (r *ChatTemplateRequest) texts() []string {
	all := []string{string(r.Schema), r.Grammar}
	for _, m := range r.Messages {
		all = append(all, m.Content, m.ReasoningContent, m.Name, m.ToolCallID)
		for _, c := range m.ToolCalls {
			all = append(all, c.ID, c.Arguments)
		}
	}
	for _, t := range r.Tools {
		all = append(all, t.Description, string(t.Parameters))
	}
	for _, v := range r.Args {
		all = append(all, string(v))
	}
	return all
}

type jsonObject map[string]any

// encode writes the request for the C++ side, in OpenAI's shape, with special texts broken.
func (r *ChatTemplateRequest) encode(b *breaker) ([]byte, error) {
	messages := make([]jsonObject, 0, len(r.Messages))
	for _, m := range r.Messages {
		o := jsonObject{"role": m.Role, "content": b.text(m.Content)}
		if m.ReasoningContent != "" {
			o["reasoning_content"] = b.text(m.ReasoningContent)
		}
		for key, s := range map[string]string{"name": m.Name, "tool_call_id": m.ToolCallID} {
			if s != "" {
				o[key] = b.key(s)
			}
		}
		calls := make([]jsonObject, 0, len(m.ToolCalls))
		for _, c := range m.ToolCalls {
			f := jsonObject{"name": c.Name, "arguments": string(b.arguments(c.arguments()))}
			calls = append(calls, jsonObject{"type": "function", "id": b.key(c.ID), "function": f})
		}
		if len(calls) > 0 {
			o["tool_calls"] = calls
		}
		messages = append(messages, o)
	}
	tools := make([]jsonObject, 0, len(r.Tools))
	for _, t := range r.Tools {
		parameters := json.RawMessage(`{"type":"object","properties":{}}`)
		if len(t.Parameters) > 0 {
			parameters = b.schema(validUTF8(t.Parameters))
		}
		f := jsonObject{"name": t.Name, "description": b.text(t.Description), "parameters": parameters}
		tools = append(tools, jsonObject{"type": "function", "function": f})
	}
	args := map[string]json.RawMessage{}
	for name, v := range r.Args {
		args[name] = b.json(validUTF8(v))
	}
	request := jsonObject{
		"messages": messages, "tools": tools, "tool_choice": r.ToolChoice, "parallel_tool_calls": r.ParallelToolCalls,
		"grammar": r.Grammar, "add_generation_prompt": r.AddGenerationPrompt, "kwargs": args,
		"reasoning_format": "deepseek", "continue_final_message": any(r.ContinueFinalMessage),
	}
	if r.ReasoningFormat != "" {
		request["reasoning_format"] = r.ReasoningFormat
	}
	if r.ContinueFinalMessage == "auto" {
		request["continue_final_message"] = true
	}
	if !r.Now.IsZero() {
		request["now"] = r.Now.Unix()
	}
	if r.ToolChoice == "" {
		request["tool_choice"] = "auto"
	}
	if len(r.Schema) > 0 {
		request["json_schema"] = string(r.Schema)
	}
	if r.EnableThinking != nil {
		request["enable_thinking"] = *r.EnableThinking
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(request); err != nil {
		return nil, errorf(ErrInvalidMessage, "encode the request: %v", err)
	}
	return buf.Bytes(), nil
}
