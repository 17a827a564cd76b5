package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// chatCompletionRequest is the body of POST /v1/chat/completions: OpenAI's fields and
// those that llama-server adds. Pointers tell an absent (or null) field from a zero.
type chatCompletionRequest struct {
	Messages          []messageParam  `json:"messages"`
	Tools             []toolParam     `json:"tools"`
	ToolChoice        toolChoice      `json:"tool_choice"`
	ParallelToolCalls *bool           `json:"parallel_tool_calls"`
	ResponseFormat    *responseFormat `json:"response_format"`

	Stream        bool `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`

	MaxTokens           *wholeNumber `json:"max_tokens"`
	MaxCompletionTokens *wholeNumber `json:"max_completion_tokens"`
	N                   *wholeNumber `json:"n"`
	Stop                stopStrings  `json:"stop"`
	Logprobs            bool         `json:"logprobs"`
	TopLogprobs         *wholeNumber `json:"top_logprobs"`
	samplingParams

	// llama-server's own.
	NPredict        *wholeNumber `json:"n_predict"` // wins over max_tokens
	IgnoreEOS       bool         `json:"ignore_eos"`
	ReasoningBudget *wholeNumber `json:"reasoning_budget_tokens"` // -1 = no limit

	// vLLM's.
	StructuredOutputs struct {
		JSON    json.RawMessage `json:"json"`
		Regex   string          `json:"regex"`
		Choice  []string        `json:"choice"`
		Grammar string          `json:"grammar"`
	} `json:"structured_outputs"`
	CachePrompt     *bool           `json:"cache_prompt"` // taken, without effect: the engine always reuses what it has
	Grammar         string          `json:"grammar"`
	JSONSchema      json.RawMessage `json:"json_schema"`
	ReasoningEffort string          `json:"reasoning_effort"`
	ReasoningFormat string          `json:"reasoning_format"`
	// variables of the chat template; enable_thinking is one that the engine knows
	ChatTemplateKwargs map[string]json.RawMessage `json:"chat_template_kwargs"`
}

// wholeNumber is an integer however JSON spells it: 3, 3.0, 3e2. One beyond 64 bits
// becomes the nearest one within.
type wholeNumber int64

// UnmarshalJSON implements [json.Unmarshaler].
func (n *wholeNumber) UnmarshalJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	err := json.Unmarshal(data, (*int64)(n))
	if err == nil {
		return nil
	}
	var number float64
	if json.Unmarshal(data, &number) != nil || number != math.Trunc(number) {
		return err // the decoder adds the field
	}
	switch {
	case number >= math.MaxInt64:
		*n = math.MaxInt64
	case number <= math.MinInt64:
		*n = math.MinInt64
	default:
		*n = wholeNumber(number)
	}
	return nil
}

type samplingParams struct {
	Seed             *wholeNumber `json:"seed"` // -1 = random
	Temperature      *float32     `json:"temperature"`
	TopP             *float32     `json:"top_p"`
	TopK             *wholeNumber `json:"top_k"`
	MinP             *float32     `json:"min_p"`
	RepeatPenalty    *float32     `json:"repeat_penalty"`
	RepeatLastN      *wholeNumber `json:"repeat_last_n"`
	PresencePenalty  *float32     `json:"presence_penalty"`
	FrequencyPenalty *float32     `json:"frequency_penalty"`
	LogitBias        logitBias    `json:"logit_bias"`

	TypicalP            *float32     `json:"typical_p"`
	TopNSigma           *float32     `json:"top_n_sigma"`
	XTCProbability      *float32     `json:"xtc_probability"`
	XTCThreshold        *float32     `json:"xtc_threshold"`
	DynatempRange       *float32     `json:"dynatemp_range"`
	DynatempExponent    *float32     `json:"dynatemp_exponent"`
	DRYMultiplier       *float32     `json:"dry_multiplier"`
	DRYBase             *float32     `json:"dry_base"`
	DRYAllowedLength    *wholeNumber `json:"dry_allowed_length"`
	DRYPenaltyLastN     *wholeNumber `json:"dry_penalty_last_n"`
	DRYSequenceBreakers []string     `json:"dry_sequence_breakers"`
	Mirostat            *wholeNumber `json:"mirostat"`
	MirostatTau         *float32     `json:"mirostat_tau"`
	MirostatEta         *float32     `json:"mirostat_eta"`
	AdaptiveTarget      *float32     `json:"adaptive_target"` // negative = off
	AdaptiveDecay       *float32     `json:"adaptive_decay"`
	MinKeep             *wholeNumber `json:"min_keep"`
	Samplers            []string     `json:"samplers"`
}

type messageParam struct {
	Role             string          `json:"role"`
	Content          textContent     `json:"content"`
	ReasoningContent string          `json:"reasoning_content"`
	Name             string          `json:"name"`
	ToolCallID       string          `json:"tool_call_id"`
	ToolCalls        []toolCallParam `json:"tool_calls"`
}

type toolCallParam struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type toolParam struct {
	Type     string `json:"type"`
	Function struct {
		Name        string          `json:"name"`
		Description string          `json:"description"`
		Parameters  json.RawMessage `json:"parameters"`
	} `json:"function"`
}

type responseFormat struct {
	Type       string          `json:"type"`
	Schema     json.RawMessage `json:"schema"` // llama-server's short form of json_schema
	JSONSchema struct {
		Schema json.RawMessage `json:"schema"`
	} `json:"json_schema"`
}

// isNull reports whether data is JSON's null, which counts as "not given".
func isNull(data []byte) bool { return string(bytes.TrimSpace(data)) == "null" }

// textContent is a message's content: a string, or parts of type "text", which
// llama-server joins by newlines.
type textContent struct {
	text  string
	given bool
}

// UnmarshalJSON implements [json.Unmarshaler].
func (c *textContent) UnmarshalJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	c.given = true
	if json.Unmarshal(data, &c.text) == nil {
		return nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal(data, &parts) != nil {
		return badRequest("invalid_content", "a message's content must be a string or an array of {\"type\":\"text\",\"text\":...}")
	}
	texts := make([]string, len(parts))
	for i, part := range parts {
		if part.Type != "text" {
			return badRequest("unsupported_content", "content of type %q is not supported: this model reads text only", part.Type)
		}
		texts[i] = part.Text
	}
	c.text = strings.Join(texts, "\n")
	return nil
}

// stopStrings is one string or several.
type stopStrings []string

// maxStops bounds the work per token that a request can cause.
const maxStops = 64

// UnmarshalJSON implements [json.Unmarshaler].
func (s *stopStrings) UnmarshalJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	var one string
	if json.Unmarshal(data, &one) == nil {
		*s = stopStrings{one}
	} else if json.Unmarshal(data, (*[]string)(s)) != nil {
		return badRequest("invalid_stop", "stop must be a string or an array of strings")
	}
	if len(*s) > maxStops {
		return badRequest("invalid_stop", "stop holds %d strings: at most %d are taken", len(*s), maxStops)
	}
	for _, stop := range *s {
		if stop == "" {
			return badRequest("invalid_stop", "stop holds an empty string")
		}
	}
	return nil
}

// toolChoice is "auto", "none", "required", or the one function that must be called.
type toolChoice struct {
	mode     string // "" = not given
	function string
}

// UnmarshalJSON implements [json.Unmarshaler].
func (c *toolChoice) UnmarshalJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	var named struct {
		Type     string `json:"type"`
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	switch {
	case json.Unmarshal(data, &c.mode) == nil:
		if c.mode == "auto" || c.mode == "none" || c.mode == "required" {
			return nil
		}
	case json.Unmarshal(data, &named) == nil && named.Type == "function" && named.Function.Name != "":
		c.mode, c.function = "required", named.Function.Name
		return nil
	}
	return badRequest("invalid_tool_choice", "tool_choice must be \"auto\", \"none\", \"required\" or {\"type\":\"function\",\"function\":{\"name\":...}}")
}

// logitBias maps token ids to what is added to their logits: OpenAI's object
// {"id": bias}, or llama-server's array [[id, bias], ...] where false bans a token.
type logitBias map[int32]float32

// banned is added to the logit of a token that must not appear.
var banned = float32(math.Inf(-1))

// UnmarshalJSON implements [json.Unmarshaler].
func (b *logitBias) UnmarshalJSON(data []byte) error {
	if isNull(data) {
		return nil
	}
	if json.Unmarshal(data, (*map[int32]float32)(b)) == nil {
		return nil
	}
	invalid := badRequest("invalid_logit_bias", "logit_bias must be an object {\"TOKEN ID\": BIAS} or an array [[TOKEN ID, BIAS or false], ...]")
	var pairs [][]json.RawMessage
	if json.Unmarshal(data, &pairs) != nil {
		return invalid
	}
	*b = make(logitBias, len(pairs))
	for _, pair := range pairs {
		if len(pair) != 2 {
			return invalid
		}
		var (
			id   int32
			bias float32
		)
		if json.Unmarshal(pair[0], &id) != nil {
			return invalid
		}
		if string(pair[1]) == "false" {
			bias = banned
		} else if isNull(pair[1]) || json.Unmarshal(pair[1], &bias) != nil {
			return invalid
		}
		(*b)[id] = bias
	}
	return nil
}

// field names a place in the request for an error text.
func field(list string, index int, rest string) string {
	return fmt.Sprintf("%s[%d]%s", list, index, rest)
}
