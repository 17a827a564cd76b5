package server

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// translate reads fields beside one user message.
func translate(t *testing.T, fields string) (engine.ChatRequest, error) {
	t.Helper()
	body := `{"messages":[{"role":"user","content":"hi"}]`
	if fields != "" {
		body += "," + fields
	}
	var q chatCompletionRequest
	if err := decodeJSON([]byte(body+"}"), &q); err != nil {
		return engine.ChatRequest{}, err
	}
	return q.engineRequest()
}

const tools = `"tools":[{"type":"function","function":{"name":"a","description":"A","parameters":{"type":"object","properties":{"x":{"type":"integer"}}}}},{"type":"function","function":{"name":"b"}}]`

func TestTranslation(t *testing.T) {
	sampling := func(change func(*llama.SamplerParams)) engine.ChatRequest {
		s := llama.DefaultSamplerParams()
		change(&s)
		return engine.ChatRequest{Sampling: &s}
	}
	defaults := llama.DefaultSamplerParams()
	plain := func(change func(*engine.ChatRequest)) engine.ChatRequest {
		r := engine.ChatRequest{Sampling: &defaults}
		change(&r)
		return r
	}
	a := llama.Tool{Name: "a", Description: "A", Parameters: json.RawMessage(`{"type":"object","properties":{"x":{"type":"integer"}}}`)}
	b := llama.Tool{Name: "b", Parameters: json.RawMessage(`{"type":"object","properties":{}}`)}
	anyObject := json.RawMessage(`{"type":"object"}`)
	off, on := false, true
	for _, test := range []struct {
		fields string
		want   engine.ChatRequest
	}{
		{``, plain(func(*engine.ChatRequest) {})},
		{`"model":"gpt-9","user":"u","metadata":{"a":"b"},"made_up":[1,{"x":null}],"store":true`, plain(func(*engine.ChatRequest) {})},
		{`"max_tokens":null,"stop":null,"seed":null,"temperature":null,"tools":null,"tool_choice":null,"response_format":null,"logit_bias":null,"stream_options":null,"n":null,"grammar":null,"json_schema":null,"cache_prompt":null,"logprobs":null`,
			plain(func(*engine.ChatRequest) {})},
		{`"n":1,"logprobs":false,"cache_prompt":false`, plain(func(*engine.ChatRequest) {})},
		{`"max_tokens":7`, plain(func(r *engine.ChatRequest) { r.MaxTokens = 7 })},
		{`"max_tokens":7,"max_completion_tokens":8`, plain(func(r *engine.ChatRequest) { r.MaxTokens = 8 })},
		{`"max_tokens":7,"n_predict":9`, plain(func(r *engine.ChatRequest) { r.MaxTokens = 9 })},
		{`"max_tokens":0`, plain(func(r *engine.ChatRequest) { r.MaxTokens = 1 })},
		{`"max_tokens":3.0`, plain(func(r *engine.ChatRequest) { r.MaxTokens = 3 })},
		{`"max_tokens":2e2`, plain(func(r *engine.ChatRequest) { r.MaxTokens = 200 })},
		{`"max_completion_tokens":99999999999`, plain(func(r *engine.ChatRequest) { r.MaxTokens = math.MaxInt32 })},
		{`"n_predict":1e300`, plain(func(r *engine.ChatRequest) { r.MaxTokens = math.MaxInt32 })},
		{`"n":1.0,"seed":7.0,"top_k":3.0`, sampling(func(s *llama.SamplerParams) { s.Seed, s.TopK = 7, 3 })},
		{`"top_k":1e12`, sampling(func(s *llama.SamplerParams) { s.TopK = 1 << 20 })},
		{`"max_tokens":-1`, plain(func(*engine.ChatRequest) {})},
		{`"stop":"\n"`, plain(func(r *engine.ChatRequest) { r.Stop = []string{"\n"} })},
		{`"stop":["a","é"]`, plain(func(r *engine.ChatRequest) { r.Stop = []string{"a", "é"} })},
		{`"ignore_eos":true`, plain(func(r *engine.ChatRequest) { r.IgnoreEOS = true })},
		{`"grammar":"root ::= \"a\""`, plain(func(r *engine.ChatRequest) { r.Grammar = `root ::= "a"` })},
		{`"reasoning_effort":"none"`, plain(func(r *engine.ChatRequest) { r.EnableThinking = &off })},
		{`"chat_template_kwargs":{"enable_thinking":true}`, plain(func(r *engine.ChatRequest) { r.EnableThinking = &on })},
		{`"chat_template_kwargs":{"x":[1],"reasoning_effort":"high"},"reasoning_effort":"low"`, plain(func(r *engine.ChatRequest) {
			r.TemplateArgs = map[string]json.RawMessage{"x": json.RawMessage(`[1]`), "reasoning_effort": json.RawMessage(`"low"`)}
		})},
		{`"reasoning_format":"none"`, plain(func(r *engine.ChatRequest) { r.ReasoningFormat = "none" })},
		{`"reasoning_format":"auto"`, plain(func(*engine.ChatRequest) {})},
		{`"temperature":0`, sampling(func(s *llama.SamplerParams) { s.Temperature = 0 })},
		{`"temperature":1.5,"top_p":0.5,"min_p":0.25,"top_k":3`, sampling(func(s *llama.SamplerParams) { s.Temperature, s.TopP, s.MinP, s.TopK = 1.5, 0.5, 0.25, 3 })},
		{`"top_k":-1`, sampling(func(s *llama.SamplerParams) { s.TopK = 0 })},
		{`"repeat_penalty":1.25,"repeat_last_n":9,"presence_penalty":-0.5,"frequency_penalty":2`,
			sampling(func(s *llama.SamplerParams) {
				s.RepeatPenalty, s.PenaltyLastN, s.PresencePenalty, s.FrequencyPenalty = 1.25, 9, -0.5, 2
			})},
		{`"repeat_penalty":1.25,"repeat_last_n":0`, plain(func(*engine.ChatRequest) {})},
		{`"seed":7`, sampling(func(s *llama.SamplerParams) { s.Seed = 7 })},
		{`"seed":0`, sampling(func(s *llama.SamplerParams) { s.Seed = 0 })},
		{`"seed":-1`, plain(func(*engine.ChatRequest) {})},
		{`"seed":4294967298`, sampling(func(s *llama.SamplerParams) { s.Seed = 2 })},
		{`"logit_bias":{"5":-100,"6":1.5}`, sampling(func(s *llama.SamplerParams) { s.LogitBias = map[llama.Token]float32{5: -100, 6: 1.5} })},
		{`"logit_bias":[[5,-100],[6,false]]`, sampling(func(s *llama.SamplerParams) { s.LogitBias = map[llama.Token]float32{5: -100, 6: banned} })},
		{tools, plain(func(r *engine.ChatRequest) { r.Tools = []llama.Tool{a, b} })},
		{tools + `,"tool_choice":"auto","parallel_tool_calls":true`, plain(func(r *engine.ChatRequest) {
			r.Tools, r.ToolChoice, r.ParallelToolCalls = []llama.Tool{a, b}, "auto", true
		})},
		{tools + `,"tool_choice":"required"`, plain(func(r *engine.ChatRequest) { r.Tools, r.ToolChoice = []llama.Tool{a, b}, "required" })},
		{tools + `,"tool_choice":{"type":"function","function":{"name":"b"}}`, plain(func(r *engine.ChatRequest) { r.Tools, r.ToolChoice = []llama.Tool{b}, "required" })},
		{tools + `,"tool_choice":"none","grammar":"root ::= \"a\""`, plain(func(r *engine.ChatRequest) {
			r.Tools, r.ToolChoice, r.Grammar = []llama.Tool{a, b}, "none", `root ::= "a"`
		})},
		{`"response_format":{"type":"text"}`, plain(func(*engine.ChatRequest) {})},
		{`"response_format":{"type":"json_object"}`, plain(func(r *engine.ChatRequest) { r.Schema = anyObject })},
		{`"response_format":{"type":"json_object","schema":{"type":"array"}}`, plain(func(r *engine.ChatRequest) { r.Schema = json.RawMessage(`{"type":"array"}`) })},
		{`"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"type":"null"}}}`, plain(func(r *engine.ChatRequest) { r.Schema = json.RawMessage(`{"type":"null"}`) })},
		{`"response_format":{"type":"json_schema","json_schema":{"schema":{ }}}`, plain(func(r *engine.ChatRequest) { r.Schema = anyObject })},
		{`"json_schema":{"type":"string"}`, plain(func(r *engine.ChatRequest) { r.Schema = json.RawMessage(`{"type":"string"}`) })},
	} {
		t.Run(test.fields, func(t *testing.T) {
			got, err := translate(t, test.fields)
			require.NoError(t, err)
			test.want.Messages = []llama.ChatMessage{{Role: "user", Content: "hi"}}
			assert.Equal(t, test.want, got)
		})
	}
	t.Run("top_p 0 means the most probable token, not off", func(t *testing.T) {
		got, err := translate(t, `"top_p":0`)
		require.NoError(t, err)
		assert.Positive(t, got.Sampling.TopP)
		assert.Less(t, got.Sampling.TopP, float32(1e-30))
	})
}

func TestTranslationRefuses(t *testing.T) {
	for fields, code := range map[string]string{
		`"n":0`:                             "invalid_n",
		`"n":129`:                           "invalid_n",
		`"n":"1"`:                           "invalid_type",
		`"logprobs":true,"top_logprobs":21`: "invalid_logprobs",
		`"top_logprobs":2`:                  "invalid_logprobs",
		`"max_tokens":-1e300`:               "invalid_max_tokens",
		`"max_tokens":"3"`:                  "invalid_type",
		`"seed":0.5`:                        "invalid_type",
		`"max_tokens":-2`:                   "invalid_max_tokens",
		`"max_tokens":1.5`:                  "invalid_type",
		`"temperature":-0.1`:                "invalid_temperature",
		`"temperature":"hot"`:               "invalid_type",
		`"temperature":1e99`:                "invalid_type",
		`"top_p":1.1`:                       "invalid_top_p",
		`"top_p":-1`:                        "invalid_top_p",
		`"min_p":2`:                         "invalid_min_p",
		`"repeat_penalty":0`:                "invalid_repeat_penalty",
		`"repeat_last_n":-1`:                "invalid_repeat_last_n",
		`"stop":1`:                          "invalid_stop",
		`"stop":""`:                         "invalid_stop",
		`"stop":["a",""]`:                   "invalid_stop",
		`"stop":["a",1]`:                    "invalid_stop",
		`"stop":[` + manyStops + `]`:        "invalid_stop",
		`"logit_bias":{"x":1}`:              "invalid_logit_bias",
		`"logit_bias":[[1]]`:                "invalid_logit_bias",
		`"logit_bias":[["a",1]]`:            "invalid_logit_bias",
		`"logit_bias":[[1,null]]`:           "invalid_logit_bias",
		`"logit_bias":[[1,true]]`:           "invalid_logit_bias",
		`"tool_choice":"maybe"`:             "invalid_tool_choice",
		`"reasoning_format":"x"`:            "invalid_reasoning_format",
		`"chat_template_kwargs":{"enable_thinking":"true"}`:                           "invalid_chat_template_kwargs",
		`"tool_choice":{"type":"function"}`:                                           "invalid_tool_choice",
		`"tool_choice":7`:                                                             "invalid_tool_choice",
		`"tool_choice":"required"`:                                                    "invalid_tool_choice",
		`"tools":[{"type":"web_search"}]`:                                             "invalid_tool",
		`"tools":[{"type":"function"}]`:                                               "invalid_tool",
		`"tools":{}`:                                                                  "invalid_type",
		`"response_format":{"type":"xml"}`:                                            "invalid_response_format",
		`"response_format":{"type":"json_schema"}`:                                    "invalid_response_format",
		`"response_format":{"type":"json_object","schema":[1]}`:                       "invalid_schema",
		`"json_schema":"string"`:                                                      "invalid_schema",
		`"json_schema":{},"grammar":"root ::= \"a\""`:                                 "conflicting_fields",
		tools + `,"grammar":"root ::= \"a\""`:                                         "conflicting_fields",
		`"response_format":{"type":"json_object"},"grammar":"root"`:                   "conflicting_fields",
		tools + `,"tool_choice":{"type":"function","function":{"name":"c"}}`:          "invalid_tool_choice",
		`"tools":[{"type":"function","function":{"name":"a","parameters":"object"}}]`: "invalid_tool",
	} {
		t.Run(fields, func(t *testing.T) {
			_, err := translate(t, fields)
			var api *apiError
			require.ErrorAs(t, err, &api)
			assert.Equal(t, 400, api.status)
			assert.Equal(t, code, api.code, api.message)
		})
	}
}

var manyStops = strings.TrimSuffix(strings.Repeat(`"a",`, maxStops+1), ",")

func TestWrongTypeIsNamed(t *testing.T) {
	for fields, want := range map[string]string{
		`"max_tokens":"3"`: `field "max_tokens" cannot hold a JSON string`,
		`"seed":0.5`:       `field "seed" cannot hold a JSON number 0.5`,
	} {
		_, err := translate(t, fields)
		require.EqualError(t, err, want)
	}
}

func TestMessages(t *testing.T) {
	for _, test := range []struct {
		name, messages string
		want           []llama.ChatMessage
		code           string
	}{
		{"parts", `[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]`, []llama.ChatMessage{{Role: "user", Content: "a\nb"}}, ""},
		{"developer", `[{"role":"developer","content":"be brief"}]`, []llama.ChatMessage{{Role: "system", Content: "be brief"}}, ""},
		{"empty content", `[{"role":"user","content":""}]`, []llama.ChatMessage{{Role: "user"}}, ""},
		{"named", `[{"role":"user","name":"ann","content":"x"}]`, []llama.ChatMessage{{Role: "user", Name: "ann", Content: "x"}}, ""},
		{
			"tool round", `[{"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"c1","content":"2"}]`,
			[]llama.ChatMessage{
				{Role: "assistant", ReasoningContent: "hm", ToolCalls: []llama.ToolCall{{ID: "c1", Name: "f", Arguments: `{"a":1}`}}},
				{Role: "tool", ToolCallID: "c1", Content: "2"},
			}, "",
		},
		{"none", `[]`, nil, "missing_messages"},
		{"no list", `{}`, nil, "invalid_type"},
		{"role unknown", `[{"role":"root","content":"x"}]`, nil, "invalid_role"},
		{"role missing", `[{"content":"x"}]`, nil, "invalid_role"},
		{"content missing", `[{"role":"user"}]`, nil, "missing_content"},
		{"content null", `[{"role":"user","content":null}]`, nil, "missing_content"},
		{"silent assistant", `[{"role":"assistant"}]`, nil, "missing_content"},
		{"content a number", `[{"role":"user","content":1}]`, nil, "invalid_content"},
		{"image", `[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://192.0.2.1/"}}]}]`, nil, "unsupported_content"},
		{"call without name", `[{"role":"assistant","tool_calls":[{"id":"x"}]}]`, nil, "invalid_tool_call"},
		{"arguments an object", `[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{}}}]}]`, nil, "invalid_type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var q chatCompletionRequest
			err := decodeJSON([]byte(`{"messages":`+test.messages+`}`), &q)
			var got engine.ChatRequest
			if err == nil {
				got, err = q.engineRequest()
			}
			if test.code == "" {
				require.NoError(t, err)
				assert.Equal(t, test.want, got.Messages)
				return
			}
			var api *apiError
			require.ErrorAs(t, err, &api)
			assert.Equal(t, test.code, api.code, api.message)
		})
	}
}

func TestFinishReasons(t *testing.T) {
	for from, to := range map[engine.FinishReason]string{
		engine.FinishStop: "stop", engine.FinishLength: "length", engine.FinishContext: "length", engine.FinishToolCalls: "tool_calls",
	} {
		assert.Equal(t, to, *finishReason(from))
	}
}

func TestTimings(t *testing.T) {
	got, err := json.Marshal(newTimings(&engine.Result{
		Usage:   engine.Usage{Prompt: 30, Cached: 10, Computed: 20, Output: 5},
		Timings: engine.Timings{Prompt: 40 * time.Millisecond, Decode: 100 * time.Millisecond},
	}))
	require.NoError(t, err)
	assert.JSONEq(t, `{"cache_n":10,"prompt_n":20,"prompt_ms":40,"prompt_per_token_ms":2,"prompt_per_second":500,
		"predicted_n":5,"predicted_ms":100,"predicted_per_token_ms":25,"predicted_per_second":40}`, string(got))
	_, err = json.Marshal(newTimings(&engine.Result{Usage: engine.Usage{Output: 1}}))
	require.NoError(t, err, "no division by zero")
}

// Whatever the bytes: an engine's request or the one error format, no panic.
func FuzzChatCompletionRequest(f *testing.F) {
	for _, seed := range []string{
		`{"messages":[{"role":"user","content":"hi"}]}`, `{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],` + tools + `}`,
		`{"stop":["a"],"logit_bias":[[1,false]],"tool_choice":{"type":"function","function":{"name":"a"}}}`, `null`, `[`, `{"logit_bias":{"1":null}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var q chatCompletionRequest
		err := decodeJSON(body, &q)
		if err == nil {
			_, err = q.engineRequest()
		}
		var api *apiError
		if err != nil && !assert.ErrorAs(t, err, &api) {
			return
		}
		if err != nil {
			_, marshalErr := marshal(api.body())
			require.NoError(t, marshalErr)
		}
	})
}
