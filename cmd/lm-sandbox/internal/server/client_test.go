package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared/constant"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// The official client against the real engine with the real default model.

// serveReal starts the service on the shared engine; the client asks it.
func serveReal(t *testing.T, options ...option.RequestOption) (openai.Client, string) {
	t.Helper()
	e, name := realEngine(t)
	url := start(t, newServer(t, Options{Engine: e, ModelName: name}))
	return newClient(url, options...), name
}

func newClient(url string, options ...option.RequestOption) openai.Client {
	defaults := []option.RequestOption{
		option.WithBaseURL(url + "/v1/"), option.WithAPIKey("unused"), option.WithHTTPClient(client), option.WithMaxRetries(0),
	}
	return openai.NewClient(append(defaults, options...)...)
}

func ask(text string, maxTokens int64) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:       "gpt-any",
		Messages:    []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)},
		MaxTokens:   openai.Int(maxTokens),
		Temperature: openai.Float(0),
	}
}

func TestClientChat(t *testing.T) {
	c, name := serveReal(t)
	answer, err := c.Chat.Completions.New(t.Context(), ask("Repeat the number 1003.", 12))
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(answer.ID, "chatcmpl-"))
	assert.Equal(t, name, answer.Model, "the real name, whatever was asked for")
	assert.Equal(t, constant.ChatCompletion("chat.completion"), answer.Object)
	assert.WithinDuration(t, time.Now(), time.Unix(answer.Created, 0), time.Minute)
	require.Len(t, answer.Choices, 1)
	assert.Equal(t, constant.Assistant("assistant"), answer.Choices[0].Message.Role)
	assert.Contains(t, answer.Choices[0].Message.Content, "1003")
	assert.LessOrEqual(t, answer.Usage.CompletionTokens, int64(12))
	assert.Positive(t, answer.Usage.PromptTokens)
	assert.Equal(t, answer.Usage.PromptTokens+answer.Usage.CompletionTokens, answer.Usage.TotalTokens)
	var extra timings
	require.NoError(t, json.Unmarshal([]byte(answer.JSON.ExtraFields["timings"].Raw()), &extra))
	assert.EqualValues(t, answer.Usage.CompletionTokens, extra.PredictedN)
	assert.EqualValues(t, answer.Usage.PromptTokens, extra.PromptN+extra.CacheN)
	assert.Positive(t, extra.PromptPerSecond)
}

func TestClientFinishReasons(t *testing.T) {
	c, _ := serveReal(t)
	t.Run("length", func(t *testing.T) {
		answer, err := c.Chat.Completions.New(t.Context(), ask("Count from one to twenty.", 3))
		require.NoError(t, err)
		assert.Equal(t, "length", answer.Choices[0].FinishReason)
		assert.EqualValues(t, 3, answer.Usage.CompletionTokens)
	})
	t.Run("ignore_eos", func(t *testing.T) {
		answer, err := c.Chat.Completions.New(t.Context(), ask("Say only: OK", 40), option.WithJSONSet("ignore_eos", true))
		require.NoError(t, err)
		assert.Equal(t, "length", answer.Choices[0].FinishReason)
		assert.EqualValues(t, 40, answer.Usage.CompletionTokens)
	})
	t.Run("context full", func(t *testing.T) {
		e, name := realEngine(t)
		small, err := engine.New(e.Model(), engine.Params{NCtx: 64, MaxSequences: 1, NThreads: 1})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, small.Close()) })
		c := newClient(start(t, newServer(t, Options{Engine: small, ModelName: name})))
		answer, err := c.Chat.Completions.New(t.Context(), ask("Count.", -1), option.WithJSONSet("ignore_eos", true))
		require.NoError(t, err)
		assert.Equal(t, "length", answer.Choices[0].FinishReason)
		assert.GreaterOrEqual(t, answer.Usage.TotalTokens, int64(64))
	})
	t.Run("stop string", func(t *testing.T) {
		params := ask("Count from one to twenty.", 12)
		answer, err := c.Chat.Completions.New(t.Context(), params)
		require.NoError(t, err)
		whole := answer.Choices[0].Message.Content
		stop := whole[len(whole)/2 : len(whole)/2+2]
		params.Stop = openai.ChatCompletionNewParamsStopUnion{OfStringArray: []string{"never in it", stop}}
		answer, err = c.Chat.Completions.New(t.Context(), params)
		require.NoError(t, err)
		assert.Equal(t, "stop", answer.Choices[0].FinishReason)
		before, _, _ := strings.Cut(whole, stop)
		assert.Equal(t, before, answer.Choices[0].Message.Content)
	})
}

// The same request gives the same text in pieces as in one.
func TestClientStream(t *testing.T) {
	c, name := serveReal(t)
	params := ask("What is the capital of France?", 12)
	whole, err := c.Chat.Completions.New(t.Context(), params)
	require.NoError(t, err)

	params.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := c.Chat.Completions.NewStreaming(t.Context(), params)
	var (
		sum    openai.ChatCompletionAccumulator
		chunks []openai.ChatCompletionChunk
	)
	for stream.Next() {
		require.True(t, sum.AddChunk(stream.Current()))
		chunks = append(chunks, stream.Current())
	}
	require.NoError(t, stream.Err())
	require.NoError(t, stream.Close())
	require.Greater(t, len(chunks), 3, "a piece at a time")
	require.Len(t, sum.Choices, 1)
	assert.Equal(t, whole.Choices[0].Message.Content, sum.Choices[0].Message.Content)
	assert.Equal(t, whole.Choices[0].FinishReason, sum.Choices[0].FinishReason)
	assert.Equal(t, whole.Usage.CompletionTokens, sum.Usage.CompletionTokens)
	assert.Equal(t, whole.Usage.PromptTokens, sum.Usage.PromptTokens)
	assert.Equal(t, "assistant", chunks[0].Choices[0].Delta.Role)
	last := chunks[len(chunks)-1]
	assert.Empty(t, last.Choices, "usage comes in a chunk of its own")
	assert.Contains(t, last.JSON.ExtraFields, "timings")
	for _, chunk := range chunks {
		assert.Equal(t, chunks[0].ID, chunk.ID)
		assert.Equal(t, name, chunk.Model)
	}
}

// What the client hides: the framing, the end mark, and that usage comes only if asked.
func TestStreamOnTheWire(t *testing.T) {
	e, name := realEngine(t)
	url := start(t, newServer(t, Options{Engine: e, ModelName: name}))
	got := post(t, url+"/v1/chat/completions", `{"stream":true,"max_tokens":3,"messages":[{"role":"user","content":"hi"}]}`)
	require.Equal(t, http.StatusOK, got.status)
	assert.Equal(t, "text/event-stream; charset=utf-8", got.header.Get("Content-Type"))
	assert.Equal(t, "no-store", got.header.Get("Cache-Control"))
	assertNoCORS(t, got)
	events := strings.Split(got.body, "\n\n")
	require.Greater(t, len(events), 3)
	assert.Empty(t, events[len(events)-1])
	assert.Equal(t, "data: [DONE]", events[len(events)-2])
	for _, event := range events[:len(events)-2] {
		data, ok := strings.CutPrefix(event, "data: ")
		require.True(t, ok, event)
		var chunk map[string]any
		require.NoError(t, json.Unmarshal([]byte(data), &chunk))
		assert.Equal(t, "chat.completion.chunk", chunk["object"])
		assert.NotContains(t, chunk, "usage")
	}
	assert.Contains(t, events[0], `"delta":{"role":"assistant","content":""}`)
	assert.Contains(t, events[len(events)-3], `"finish_reason":"length"`)
	assert.Contains(t, events[len(events)-3], `"timings":{`)
}

func TestClientSeed(t *testing.T) {
	c, _ := serveReal(t)
	params := ask("Tell me a story.", 16)
	params.Temperature, params.Seed = openai.Float(1.2), openai.Int(42)
	first, err := c.Chat.Completions.New(t.Context(), params)
	require.NoError(t, err)
	second, err := c.Chat.Completions.New(t.Context(), params)
	require.NoError(t, err)
	assert.Equal(t, first.Choices[0].Message.Content, second.Choices[0].Message.Content)
	params.Seed = openai.Int(43)
	third, err := c.Chat.Completions.New(t.Context(), params)
	require.NoError(t, err)
	assert.NotEqual(t, first.Choices[0].Message.Content, third.Choices[0].Message.Content)
}

func TestClientModels(t *testing.T) {
	c, name := serveReal(t)
	models, err := c.Models.List(t.Context())
	require.NoError(t, err)
	require.Len(t, models.Data, 1)
	assert.Equal(t, name, models.Data[0].ID)
}

// requireAPIError returns the client's view of a failure.
func requireAPIError(t *testing.T, err error, status int, code string) *openai.Error {
	t.Helper()
	var api *openai.Error
	require.ErrorAs(t, err, &api)
	assert.Equal(t, status, api.StatusCode)
	assert.Equal(t, code, api.Code)
	assert.NotEmpty(t, api.Message)
	assert.NotEmpty(t, api.Type)
	return api
}

// nested is a JSON schema that many levels deep.
func nested(levels int) map[string]any {
	schema := map[string]any{"type": "null"}
	for range levels {
		schema = map[string]any{"type": "array", "items": schema}
	}
	return schema
}

func TestClientErrors(t *testing.T) {
	e, name := realEngine(t)
	url := start(t, newServer(t, Options{Engine: e, ModelName: name, Key: "right"}))
	c := newClient(url, option.WithAPIKey("right"))
	long := ask(strings.Repeat("word ", 5000), 1)
	schema := ask("x", 1)
	schema.ResponseFormat.OfJSONSchema = &openai.ResponseFormatJSONSchemaParam{
		JSONSchema: openai.ResponseFormatJSONSchemaJSONSchemaParam{Name: "x", Schema: nested(200)},
	}
	for _, test := range []struct {
		name    string
		c       openai.Client
		params  openai.ChatCompletionNewParams
		options []option.RequestOption
		status  int
		code    string
	}{
		{"key", newClient(url, option.WithAPIKey("wrong")), ask("x", 1), nil, 401, "invalid_api_key"},
		{"n", c, ask("x", 1), []option.RequestOption{option.WithJSONSet("n", 200)}, 400, "invalid_n"},
		{"prompt too long", c, long, nil, 400, "context_length_exceeded"},
		{"schema", c, schema, nil, 400, "invalid_schema"},
		{"grammar", c, ask("x", 1), []option.RequestOption{option.WithJSONSet("grammar", "root ::= (")}, 400, "invalid_grammar"},
		{"token", c, ask("x", 1), []option.RequestOption{option.WithJSONSet("logit_bias", map[string]int{"99999999": 1})}, 400, "invalid_token"},
		{"parameter", c, ask("x", 1), []option.RequestOption{option.WithJSONSet("temperature", 1e30)}, 400, "invalid_parameter"},
		{"no messages", c, openai.ChatCompletionNewParams{Messages: []openai.ChatCompletionMessageParamUnion{}}, nil, 400, "missing_messages"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.c.Chat.Completions.New(t.Context(), test.params, test.options...)
			requireAPIError(t, err, test.status, test.code)
			// The status is there for a stream too: nothing has been sent before.
			stream := test.c.Chat.Completions.NewStreaming(t.Context(), test.params, test.options...)
			require.False(t, stream.Next())
			requireAPIError(t, stream.Err(), test.status, test.code)
		})
	}
}

// A full queue is told to come back, and a client that does is served.
func TestClientBusy(t *testing.T) {
	e, name := realEngine(t)
	small, err := engine.New(e.Model(), engine.Params{NCtx: 512, MaxSequences: 1, MaxQueue: 1, NThreads: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, small.Close()) })
	url := start(t, newServer(t, Options{Engine: small, ModelName: name}))
	c := newClient(url)

	endless := func() func() {
		stream := c.Chat.Completions.NewStreaming(t.Context(), ask("Count.", -1), option.WithJSONSet("ignore_eos", true))
		return func() { require.NoError(t, stream.Close()) }
	}
	closeRunning := endless() // returns with the first event
	waiting := make(chan func(), 1)
	go func() { waiting <- endless() }()
	require.Eventually(t, func() bool { return small.Stats().Waiting == 1 }, 10*time.Second, time.Millisecond)

	_, err = c.Chat.Completions.New(t.Context(), ask("hi", 1))
	api := requireAPIError(t, err, 429, "busy")
	assert.Equal(t, "1", api.Response.Header.Get("Retry-After"))

	closeRunning()
	(<-waiting)()
	patient := newClient(url, option.WithMaxRetries(3))
	_, err = patient.Chat.Completions.New(t.Context(), ask("hi", 1))
	require.NoError(t, err)
}
