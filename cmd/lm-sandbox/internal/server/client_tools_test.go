package server

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func weatherTool() openai.ChatCompletionToolUnionParam {
	return openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
		Name:        "get_weather",
		Description: openai.String("The weather of a city"),
		Parameters: openai.FunctionParameters{
			"type":       "object",
			"properties": map[string]any{"city": map[string]any{"type": "string", "enum": []string{"Paris", "Rome"}}},
			"required":   []string{"city"},
		},
	})
}

func requireWeatherCall(t *testing.T, calls []openai.ChatCompletionMessageToolCallUnion) {
	t.Helper()
	require.Len(t, calls, 1)
	assert.NotEmpty(t, calls[0].ID)
	assert.Equal(t, "function", calls[0].Type)
	assert.Equal(t, "get_weather", calls[0].Function.Name)
	var arguments struct{ City string }
	require.NoError(t, json.Unmarshal([]byte(calls[0].Function.Arguments), &arguments), calls[0].Function.Arguments)
	assert.Contains(t, []string{"Paris", "Rome"}, arguments.City)
}

func TestClientTools(t *testing.T) {
	c, _ := serveReal(t)
	for name, choice := range map[string]openai.ChatCompletionToolChoiceOptionUnionParam{
		"required": {OfAuto: openai.String("required")},
		"named":    openai.ToolChoiceOptionFunctionToolChoice(openai.ChatCompletionNamedToolChoiceFunctionParam{Name: "get_weather"}),
	} {
		params := ask("What is the weather in Paris?", 100)
		params.Tools = []openai.ChatCompletionToolUnionParam{weatherTool()}
		params.ToolChoice = choice
		t.Run(name, func(t *testing.T) {
			answer, err := c.Chat.Completions.New(t.Context(), params)
			require.NoError(t, err)
			assert.Equal(t, "tool_calls", answer.Choices[0].FinishReason)
			requireWeatherCall(t, answer.Choices[0].Message.ToolCalls)

			// The second round: the call and its result go back.
			params := ask("What is the weather in Paris?", 16)
			params.Tools = []openai.ChatCompletionToolUnionParam{weatherTool()}
			params.Messages = append(params.Messages, answer.Choices[0].Message.ToParam(),
				openai.ToolMessage(`{"weather":"sunny"}`, answer.Choices[0].Message.ToolCalls[0].ID))
			params.ToolChoice = openai.ChatCompletionToolChoiceOptionUnionParam{OfAuto: openai.String("none")}
			answer, err = c.Chat.Completions.New(t.Context(), params)
			require.NoError(t, err)
			assert.NotEmpty(t, answer.Choices[0].Message.Content)
			assert.Empty(t, answer.Choices[0].Message.ToolCalls)
		})
		t.Run(name+", streaming", func(t *testing.T) {
			stream := c.Chat.Completions.NewStreaming(t.Context(), params)
			var sum openai.ChatCompletionAccumulator
			for stream.Next() {
				require.True(t, sum.AddChunk(stream.Current()))
			}
			require.NoError(t, stream.Err())
			assert.Equal(t, "tool_calls", sum.Choices[0].FinishReason)
			requireWeatherCall(t, sum.Choices[0].Message.ToolCalls)
		})
	}
}

// Left to choose, the model answers in words or by a call, and the finish reason says which.
func TestClientToolsAuto(t *testing.T) {
	c, _ := serveReal(t)
	params := ask("Hello, how are you?", 60)
	params.Tools = []openai.ChatCompletionToolUnionParam{weatherTool()}
	answer, err := c.Chat.Completions.New(t.Context(), params)
	require.NoError(t, err)
	choice := answer.Choices[0]
	switch choice.FinishReason {
	case "tool_calls":
		requireWeatherCall(t, choice.Message.ToolCalls)
	case "stop", "length":
		assert.NotEmpty(t, choice.Message.Content)
		assert.NotContains(t, choice.Message.Content, `{"response"`, "the engine's own framing stays inside")
	default:
		t.Errorf("finish reason %q", choice.FinishReason)
	}
}

func TestClientSchema(t *testing.T) {
	c, _ := serveReal(t)
	params := ask("Describe a person called Ann, who is 30 years old.", 100)
	params.ResponseFormat.OfJSONSchema = &openai.ResponseFormatJSONSchemaParam{
		JSONSchema: openai.ResponseFormatJSONSchemaJSONSchemaParam{
			Name: "person", Strict: openai.Bool(true),
			Schema: map[string]any{
				"type": "object", "required": []string{"name", "age"}, "additionalProperties": false,
				"properties": map[string]any{
					"name": map[string]any{"type": "string", "maxLength": 20},
					"age":  map[string]any{"type": "integer", "minimum": 0, "maximum": 150},
				},
			},
		},
	}
	answer, err := c.Chat.Completions.New(t.Context(), params)
	require.NoError(t, err)
	var person struct {
		Name *string
		Age  *int
	}
	decoder := json.NewDecoder(strings.NewReader(answer.Choices[0].Message.Content))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&person), answer.Choices[0].Message.Content)
	require.NotNil(t, person.Name)
	require.NotNil(t, person.Age)

	t.Run("grammar", func(t *testing.T) {
		answer, err := c.Chat.Completions.New(t.Context(), ask("Yes or no?", 10), option.WithJSONSet("grammar", `root ::= "maybe" | "perhaps"`))
		require.NoError(t, err)
		assert.Contains(t, []string{"maybe", "perhaps"}, answer.Choices[0].Message.Content)
		assert.Equal(t, "stop", answer.Choices[0].FinishReason)
	})
	t.Run("logit_bias", func(t *testing.T) {
		plain, err := c.Chat.Completions.New(t.Context(), ask("What is the capital of France?", 8))
		require.NoError(t, err)
		params := ask("What is the capital of France?", 8)
		params.LogitBias = map[string]int64{}
		tokens, err := sharedVocab(t).Tokenize(plain.Choices[0].Message.Content, false, false)
		require.NoError(t, err)
		for _, token := range tokens {
			params.LogitBias[strconv.Itoa(int(token))] = -100
		}
		biased, err := c.Chat.Completions.New(t.Context(), params)
		require.NoError(t, err)
		assert.NotEqual(t, plain.Choices[0].Message.Content, biased.Choices[0].Message.Content)
	})
}

// An assistant's message at the end is continued, and not repeated, streamed or not.
func TestClientPrefill(t *testing.T) {
	c, _ := serveReal(t)
	params := ask("Which country has Paris as its capital?", 4)
	params.Temperature = openai.Float(0)
	params.Messages = append(params.Messages, openai.AssistantMessage("Paris is the capital city of"))
	answer, err := c.Chat.Completions.New(t.Context(), params)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(answer.Choices[0].Message.Content, " France"), answer.Choices[0].Message.Content)
	stream := c.Chat.Completions.NewStreaming(t.Context(), params)
	var sum openai.ChatCompletionAccumulator
	for stream.Next() {
		require.True(t, sum.AddChunk(stream.Current()))
	}
	require.NoError(t, stream.Err())
	assert.Equal(t, answer.Choices[0].Message.Content, sum.Choices[0].Message.Content)

	params.Messages = append(params.Messages, openai.AssistantMessage("and"))
	_, err = c.Chat.Completions.New(t.Context(), params)
	require.ErrorContains(t, err, "400", "two messages of the assistant")
}
