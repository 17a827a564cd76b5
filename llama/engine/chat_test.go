package engine_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// reply is what a whole chat request gave.
type reply struct {
	content   string
	reasoning string
	calls     []llama.ToolCall
	result    *engine.Result
}

func collectChat(t testing.TB, e *engine.Engine, r engine.ChatRequest) (reply, error) {
	t.Helper()
	var a reply
	for d, err := range e.Chat(context.Background(), r) {
		if err != nil {
			return a, err
		}
		require.Nil(t, a.result, "a delta after the last one")
		require.True(t, d.Result != nil || d.Content+d.Reasoning != "" || len(d.ToolCalls) > 0, "an empty delta")
		a.content += d.Content
		a.reasoning += d.Reasoning
		for _, c := range d.ToolCalls {
			if c.Index == len(a.calls) {
				require.NotEmpty(t, c.ID)
				require.NotEmpty(t, c.Name)
				a.calls = append(a.calls, llama.ToolCall{ID: c.ID, Name: c.Name})
			} else {
				require.Empty(t, c.ID+c.Name, "only the first piece has them")
			}
			a.calls[c.Index].Arguments += c.Arguments
		}
		a.result = d.Result
	}
	require.NotNil(t, a.result)
	return a, nil
}

func chat(t testing.TB, e *engine.Engine, r engine.ChatRequest) reply {
	t.Helper()
	a, err := collectChat(t, e, r)
	require.NoError(t, err)
	return a
}

func user(text string) []llama.ChatMessage {
	return []llama.ChatMessage{{Role: "user", Content: text}}
}

var weather = llama.Tool{
	Name: "get_weather", Description: "The weather in a city now.",
	Parameters: json.RawMessage(`{"type":"object","properties":{"city":{"type":"string","maxLength":20},"unit":{"$ref":"#/$defs/unit"}},"required":["city","unit"],"$defs":{"unit":{"enum":["celsius","fahrenheit"]}}}`),
}

func TestChat(t *testing.T) {
	e := newEngine(t, engine.Params{})
	r := engine.ChatRequest{Messages: user("What is the capital of France? Answer in one word."), Sampling: greedy(), MaxTokens: 32}
	a := chat(t, e, r)
	require.Contains(t, a.content, "Paris")
	require.NotContains(t, a.content, "<|")
	require.Equal(t, engine.FinishStop, a.result.FinishReason)
	n, err := e.CountTokens(context.Background(), r)
	require.NoError(t, err)
	require.Equal(t, n, a.result.Usage.Prompt)
	requireIdle(t, e)
}

func TestChatTool(t *testing.T) {
	e := newEngine(t, engine.Params{})
	r := engine.ChatRequest{
		Messages: user("What is the weather in Paris?"), Tools: []llama.Tool{weather}, ToolChoice: "required",
		Sampling: greedy(), MaxTokens: 100,
	}
	a := chat(t, e, r)
	require.Equal(t, engine.FinishToolCalls, a.result.FinishReason)
	require.Empty(t, a.content)
	require.Len(t, a.calls, 1)
	require.Equal(t, "get_weather", a.calls[0].Name)
	var arguments struct{ City, Unit string }
	require.NoError(t, json.Unmarshal([]byte(a.calls[0].Arguments), &arguments))
	require.Contains(t, []string{"celsius", "fahrenheit"}, arguments.Unit)

	t.Run("its result goes back", func(t *testing.T) {
		with := r
		with.ToolChoice = ""
		with.MaxTokens = 60
		with.Messages = append(user("What is the weather in Paris?"),
			llama.ChatMessage{Role: "assistant", ToolCalls: a.calls},
			llama.ChatMessage{Role: "tool", ToolCallID: a.calls[0].ID, Name: "get_weather", Content: "17 degrees, sunny"})
		b := chat(t, e, with)
		require.True(t, b.content != "" || len(b.calls) > 0)
		n, err := e.CountTokens(context.Background(), with)
		require.NoError(t, err)
		require.Equal(t, n, b.result.Usage.Prompt)
		require.Greater(t, n, a.result.Usage.Prompt)
	})
	t.Run("cut off", func(t *testing.T) {
		with := r
		with.MaxTokens = 12
		require.Equal(t, engine.FinishLength, chat(t, e, with).result.FinishReason)
	})
	t.Run("not allowed", func(t *testing.T) {
		with := r
		with.ToolChoice, with.MaxTokens = "none", 12
		a := chat(t, e, with)
		require.Empty(t, a.calls)
		require.NotEmpty(t, a.content)
	})
	t.Run("with a schema", func(t *testing.T) {
		with := r
		with.Schema = json.RawMessage(`{"type":"object"}`)
		_, err := collectChat(t, e, with)
		var invalid *engine.ErrInvalid
		require.ErrorAs(t, err, &invalid)
	})
	requireIdle(t, e)
}

type city struct {
	Name       string `json:"name" jsonschema:"the name of the city"`
	Country    string `json:"country"`
	IsCapital  bool   `json:"is_capital"`
	Population int    `json:"population,omitempty"`
}

func TestGenerateInto(t *testing.T) {
	e := newEngine(t, engine.Params{})
	r := engine.ChatRequest{Messages: user("Describe the city of Paris as JSON."), Sampling: greedy(), MaxTokens: 100}
	v, result, err := engine.GenerateInto[city](context.Background(), e, r)
	require.NoError(t, err)
	require.NotEmpty(t, v.Name)
	require.Equal(t, engine.FinishStop, result.FinishReason)

	r.MaxTokens = 3
	_, result, err = engine.GenerateInto[city](context.Background(), e, r)
	var bad *engine.ErrOutput
	require.ErrorAs(t, err, &bad)
	require.Equal(t, engine.FinishLength, bad.FinishReason)
	require.Equal(t, 3, result.Usage.Output)

	var invalid *engine.ErrInvalid
	_, _, err = engine.GenerateInto[func()](context.Background(), e, r)
	require.ErrorAs(t, err, &invalid)
	r.Tools = []llama.Tool{weather}
	_, _, err = engine.GenerateInto[city](context.Background(), e, r)
	require.ErrorAs(t, err, &invalid)
	requireIdle(t, e)
}

func TestGenerateSchemaAndGrammar(t *testing.T) {
	e := newEngine(t, engine.Params{})
	a := generate(t, e, engine.Request{Prompt: "A colour as JSON: ", Schema: json.RawMessage(`{"type":"object","properties":{"colour":{"enum":["red","blue"]}},"required":["colour"]}`), Sampling: greedy(), MaxTokens: 40})
	var v struct{ Colour string }
	require.NoError(t, json.Unmarshal([]byte(a.text), &v), a.text)
	require.Contains(t, []string{"red", "blue"}, v.Colour)

	a = generate(t, e, engine.Request{Prompt: "Yes or no? ", Grammar: `root ::= "yes" | "no"`, Sampling: greedy()})
	require.Contains(t, []string{"yes", "no"}, a.text)
	require.Equal(t, engine.FinishStop, a.result.FinishReason)
}

// TestChatWithoutTemplate uses a model that has none.
func TestChatWithoutTemplate(t *testing.T) {
	m, err := load("gemma3-270m")
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	e, err := engine.New(m, engine.Params{NCtx: 512, MaxSequences: 2, NThreads: 1})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	require.False(t, e.HasChatTemplate())
	_, err = collectChat(t, e, engine.ChatRequest{Messages: user("hi")})
	require.ErrorIs(t, err, llama.ErrNoChatTemplate)
	_, err = e.CountTokens(context.Background(), engine.ChatRequest{Messages: user("hi")})
	require.ErrorIs(t, err, llama.ErrNoChatTemplate)

	// A sliding window needs nothing of the caller.
	a := generate(t, e, engine.Request{Prompt: france, MaxTokens: 4, Sampling: greedy()})
	require.NotEmpty(t, a.text)
	requireIdle(t, e)

	override, err := engine.New(m, engine.Params{NCtx: 512, MaxSequences: 1, NThreads: 1, ChatTemplate: "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"})
	require.NoError(t, err)
	defer func() { require.NoError(t, override.Close()) }()
	require.True(t, override.HasChatTemplate())
	b := chat(t, override, engine.ChatRequest{Messages: user(france), MaxTokens: 4, Sampling: greedy()})
	require.NotEmpty(t, b.content)
}
