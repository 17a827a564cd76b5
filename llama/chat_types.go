package llama

import "encoding/json"

// ChatMessage is one message of a conversation in OpenAI's shape.
type ChatMessage struct {
	Role             string // system, developer, user, assistant or tool
	Content          string
	ReasoningContent string     // what an assistant thought before its answer
	Name             string     // of the tool, in a tool's message
	ToolCallID       string     // which call a tool's message answers
	ToolCalls        []ToolCall // calls that an assistant made
}

// ToolCall is one call of a tool by the model.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string // JSON
}

// Tool is a function that the model may call.
type Tool struct {
	Name        string
	Description string
	Parameters  json.RawMessage // JSON schema of the arguments; empty = none
}
