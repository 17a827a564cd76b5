package engine

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

func testTools() []llama.Tool {
	return []llama.Tool{
		{Name: "now", Description: "The time <now>."},
		{Name: "search", Parameters: json.RawMessage(`{
			"type": "object",
			"properties": {"zone": {"$ref": "#/$defs/zone"}, "a": {"type": "string", "description": "not a \"$ref\":\"#/x"}},
			"$defs": {"zone": {"enum": ["x"]}}
		}`)},
	}
}

func TestToolsInText(t *testing.T) {
	r := llama.ChatTemplateRequest{
		Messages: []llama.ChatMessage{
			{Role: "system", Content: "Be brief."},
			{Role: "user", Content: "hi"},
			{Role: "assistant", ToolCalls: []llama.ToolCall{{ID: "1", Name: "now"}}},
			{Role: "tool", ToolCallID: "1", Name: "now", Content: `12 o'clock`},
			{Role: "assistant", Content: "Noon."},
		},
		Tools: testTools(),
	}
	got, err := withToolsInText(r)
	require.NoError(t, err)
	require.Empty(t, got.Tools)
	require.Len(t, r.Messages[2].ToolCalls, 1, "the caller's messages are untouched")
	require.Contains(t, got.Messages[0].Content, "Be brief.\n\n")
	require.Contains(t, got.Messages[0].Content, `{"name":"now","description":"The time <now>.","parameters":{"type":"object"}}`)
	require.Contains(t, got.Messages[0].Content, `"response"`)
	require.Equal(t, []llama.ChatMessage{
		{Role: "user", Content: "hi"},
		{Role: "assistant", Content: `{"tool_calls":[{"name":"now","arguments":{}}]}`},
		{Role: "user", Content: `{"name":"now","result":"12 o'clock"}`},
		{Role: "assistant", Content: `{"response":"Noon."}`},
	}, got.Messages[1:])

	r.ToolChoice = "required"
	r.Messages = r.Messages[1:2]
	got, err = withToolsInText(r)
	require.NoError(t, err)
	require.Equal(t, "system", got.Messages[0].Role)
	require.NotContains(t, got.Messages[0].Content, `"response"`)
	require.NotContains(t, string(got.Schema), `"response"`)
}

func TestToolSchema(t *testing.T) {
	schema, err := toolSchema(testTools(), false, true)
	require.NoError(t, err)
	require.Contains(t, string(schema), `"properties":{"zone":{"$ref":"#/$defs/tool1/$defs/zone"},"a":`, "references move, the order stays")
	require.Contains(t, string(schema), `not a \"$ref\":\"#/x`, "a text that looks like a reference stays")
	_, err = llama.SchemaToGrammar(schema)
	require.NoError(t, err)

	for name, bad := range map[string]llama.ChatTemplateRequest{
		"parameters": {Tools: []llama.Tool{{Name: "x", Parameters: json.RawMessage(`{"type":`)}}},
		"arguments": {Tools: testTools(), Messages: []llama.ChatMessage{
			{Role: "assistant", ToolCalls: []llama.ToolCall{{Name: "now", Arguments: "{"}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := withToolsInText(bad)
			var invalid *ErrInvalid
			require.ErrorAs(t, err, &invalid)
		})
	}
}
