package server

import (
	"encoding/json"
	"math"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// engineRequest translates q, or says what is wrong with it. Names of models are not
// looked at: the one that is loaded answers.
func (q *chatCompletionRequest) engineRequest() (engine.ChatRequest, error) {
	var r engine.ChatRequest
	if q.N != nil && (*q.N < 1 || *q.N > mostChoices) {
		return r, badRequest("invalid_n", "n is %d: it must be 1 to %d", *q.N, mostChoices)
	}
	logprobs, err := q.engineLogprobs()
	if err != nil {
		return r, err
	}
	messages, err := engineMessages(q.Messages)
	if err != nil {
		return r, err
	}
	sampling, err := q.engineSampling()
	if err != nil {
		return r, err
	}
	maxTokens, err := q.maxTokens()
	if err != nil {
		return r, err
	}
	r = engine.ChatRequest{
		Messages:          messages,
		ParallelToolCalls: q.ParallelToolCalls != nil && *q.ParallelToolCalls,
		Grammar:           q.Grammar,
		MaxTokens:         maxTokens,
		Stop:              q.Stop,
		Sampling:          sampling,
		IgnoreEOS:         q.IgnoreEOS,
		Logprobs:          logprobs,
		Regex:             q.StructuredOutputs.Regex,
		Choices:           q.StructuredOutputs.Choice,
	}
	if q.N != nil && *q.N > 1 {
		r.N = int(*q.N)
	}
	if b := q.ReasoningBudget; b != nil && *b >= 0 {
		budget := int(min(*b, math.MaxInt32))
		r.ReasoningBudget = &budget
	}
	if g := q.StructuredOutputs.Grammar; g != "" {
		if r.Grammar != "" {
			return r, badRequest("conflicting_fields", "grammar is given twice: send one of them")
		}
		r.Grammar = g
	}
	if r.TemplateArgs, r.EnableThinking, err = q.templateArgs(); err != nil {
		return r, err
	}
	switch q.ReasoningFormat {
	case "", "auto", "deepseek", "deepseek-legacy":
	case "none":
		r.ReasoningFormat = "none"
	default:
		return r, badRequest("invalid_reasoning_format", "reasoning_format is %.40q: it must be none, auto, deepseek or deepseek-legacy", q.ReasoningFormat)
	}
	if r.Tools, r.ToolChoice, err = q.engineTools(); err != nil {
		return r, err
	}
	if r.Schema, err = q.schema(); err != nil {
		return r, err
	}
	if r.Grammar != "" && r.Schema != nil {
		return r, badRequest("conflicting_fields", "grammar and a JSON schema cannot be used together: send one of them")
	}
	if r.Grammar != "" && len(r.Tools) > 0 && r.ToolChoice != "none" {
		return r, badRequest("conflicting_fields", "grammar and tools cannot be used together: send one of them")
	}
	return r, nil
}

const (
	mostChoices     = 128 // OpenAI's
	mostTopLogprobs = 20  // OpenAI's
)

// engineLogprobs is the number of probabilities for each token, the token's own included.
func (q *chatCompletionRequest) engineLogprobs() (int, error) {
	switch {
	case q.TopLogprobs == nil && !q.Logprobs:
		return 0, nil
	case !q.Logprobs:
		return 0, badRequest("invalid_logprobs", "top_logprobs needs \"logprobs\":true")
	case q.TopLogprobs == nil:
		return 1, nil
	case *q.TopLogprobs < 0 || *q.TopLogprobs > mostTopLogprobs:
		return 0, badRequest("invalid_logprobs", "top_logprobs is %d: it must be 0 to %d", *q.TopLogprobs, mostTopLogprobs)
	}
	return 1 + int(*q.TopLogprobs), nil
}

func engineMessages(params []messageParam) ([]llama.ChatMessage, error) {
	if len(params) == 0 {
		return nil, badRequest("missing_messages", "field \"messages\" is missing or empty")
	}
	messages := make([]llama.ChatMessage, len(params))
	for i, p := range params {
		role := p.Role
		switch role {
		case "developer": // OpenAI's newer name; templates know the older one
			role = "system"
		case "system", "user", "assistant", "tool":
		default:
			return nil, badRequest("invalid_role", "%s is %q: it must be system, developer, user, assistant or tool", field("messages", i, ".role"), p.Role)
		}
		if !p.Content.given && (role != "assistant" || len(p.ToolCalls) == 0) {
			return nil, badRequest("missing_content", "%s is missing", field("messages", i, ".content"))
		}
		messages[i] = llama.ChatMessage{
			Role: role, Content: p.Content.text, ReasoningContent: p.ReasoningContent,
			Name: p.Name, ToolCallID: p.ToolCallID,
		}
		for j, call := range p.ToolCalls {
			if call.Function.Name == "" {
				return nil, badRequest("invalid_tool_call", "%s%s is missing", field("messages", i, "."), field("tool_calls", j, ".function.name"))
			}
			messages[i].ToolCalls = append(messages[i].ToolCalls, llama.ToolCall{
				ID: call.ID, Name: call.Function.Name, Arguments: call.Function.Arguments,
			})
		}
	}
	return messages, nil
}

// engineTools narrows the tools to the one that tool_choice names, if it does.
func (q *chatCompletionRequest) engineTools() ([]llama.Tool, string, error) {
	var tools []llama.Tool
	for i, p := range q.Tools {
		if p.Type != "function" || p.Function.Name == "" {
			return nil, "", badRequest("invalid_tool", "%s must be {\"type\":\"function\",\"function\":{\"name\":...}}", field("tools", i, ""))
		}
		if q.ToolChoice.function != "" && q.ToolChoice.function != p.Function.Name {
			continue
		}
		parameters := p.Function.Parameters
		if len(parameters) == 0 || isNull(parameters) {
			parameters = json.RawMessage(`{"type":"object","properties":{}}`)
		} else if _, ok := object(parameters); !ok {
			return nil, "", badRequest("invalid_tool", "%s must be a JSON schema object", field("tools", i, ".function.parameters"))
		}
		tools = append(tools, llama.Tool{Name: p.Function.Name, Description: p.Function.Description, Parameters: parameters})
	}
	if len(tools) == 0 && q.ToolChoice.mode == "required" {
		return nil, "", badRequest("invalid_tool_choice", "tool_choice asks for a call, but tools has no such function")
	}
	return tools, q.ToolChoice.mode, nil
}

// schema returns the JSON schema that the answer must follow, nil for none.
func (q *chatCompletionRequest) schema() (json.RawMessage, error) {
	anyObject := json.RawMessage(`{"type":"object"}`)
	schema := q.JSONSchema
	if s := q.StructuredOutputs.JSON; len(s) > 0 {
		schema = s
	}
	if f := q.ResponseFormat; f != nil {
		switch f.Type {
		case "", "text":
		case "json_object":
			schema = anyObject
			if len(f.Schema) > 0 && !isNull(f.Schema) {
				schema = f.Schema
			}
		case "json_schema":
			if schema = f.JSONSchema.Schema; len(schema) == 0 || isNull(schema) {
				return nil, badRequest("invalid_response_format", "response_format.json_schema.schema is missing")
			}
		default:
			return nil, badRequest("invalid_response_format", "response_format.type is %q: it must be text, json_object or json_schema", f.Type)
		}
	}
	if len(schema) == 0 || isNull(schema) {
		return nil, nil
	}
	members, ok := object(schema)
	if !ok {
		return nil, badRequest("invalid_schema", "the JSON schema must be an object")
	}
	if len(members) == 0 { // as in llama-server
		return anyObject, nil
	}
	return schema, nil
}

func object(data []byte) (members map[string]json.RawMessage, ok bool) {
	err := json.Unmarshal(data, &members)
	return members, err == nil && members != nil
}

// maxTokens returns the engine's limit: 0 = none. As in llama-server, 0 of the client
// still gives one token: the last step of the prompt samples it.
func (q *chatCompletionRequest) maxTokens() (int, error) {
	for _, limit := range []*wholeNumber{q.NPredict, q.MaxCompletionTokens, q.MaxTokens} {
		switch {
		case limit == nil:
		case *limit == -1:
			return 0, nil
		case *limit < 0:
			return 0, badRequest("invalid_max_tokens", "max_tokens is %d: it must be at least 0, or -1 for no limit", *limit)
		default:
			return int(min(max(*limit, 1), math.MaxInt32)), nil // no context is longer
		}
	}
	return 0, nil
}

// templateArgs returns the variables of the chat template, without enable_thinking,
// which is the second result. As in llama-server, reasoning_effort is one of them, and
// "none" turns thinking off.
func (q *chatCompletionRequest) templateArgs() (args map[string]json.RawMessage, thinking *bool, err error) {
	for name, value := range q.ChatTemplateKwargs {
		if name == "enable_thinking" {
			if json.Unmarshal(value, &thinking) != nil {
				return nil, nil, badRequest("invalid_chat_template_kwargs", "chat_template_kwargs.enable_thinking must be true or false")
			}
			continue
		}
		if args == nil {
			args = map[string]json.RawMessage{}
		}
		args[name] = value
	}
	switch q.ReasoningEffort {
	case "":
	case "none":
		off := false
		thinking = &off
		delete(args, "reasoning_effort")
	default:
		if args == nil {
			args = map[string]json.RawMessage{}
		}
		if args["reasoning_effort"], err = json.Marshal(q.ReasoningEffort); err != nil {
			return nil, nil, err
		}
	}
	return args, thinking, nil
}

// engineSampling starts from llama.cpp's defaults, as llama-server does, and not from
// OpenAI's.
func (p *samplingParams) engineSampling() (*llama.SamplerParams, error) {
	s := llama.DefaultSamplerParams()
	if p.Seed != nil && *p.Seed != -1 {
		s.Seed = uint32(*p.Seed) // the low 32 bits: OpenAI's seeds have 64
	}
	for _, f := range []struct {
		name     string
		value    *float32
		to       *float32
		min, max float32
	}{
		{"temperature", p.Temperature, &s.Temperature, 0, math.MaxFloat32},
		{"top_p", p.TopP, &s.TopP, 0, 1},
		{"min_p", p.MinP, &s.MinP, 0, 1},
		{"repeat_penalty", p.RepeatPenalty, &s.RepeatPenalty, math.SmallestNonzeroFloat32, math.MaxFloat32},
		{"presence_penalty", p.PresencePenalty, &s.PresencePenalty, -math.MaxFloat32, math.MaxFloat32},
		{"frequency_penalty", p.FrequencyPenalty, &s.FrequencyPenalty, -math.MaxFloat32, math.MaxFloat32},
		{"typical_p", p.TypicalP, &s.TypicalP, 0, 1},
		{"xtc_probability", p.XTCProbability, &s.XTCProbability, 0, 1},
		{"xtc_threshold", p.XTCThreshold, &s.XTCThreshold, 0, 1},
		{"dynatemp_range", p.DynatempRange, &s.DynatempRange, 0, math.MaxFloat32},
		{"dynatemp_exponent", p.DynatempExponent, &s.DynatempExponent, 0, math.MaxFloat32},
		{"dry_multiplier", p.DRYMultiplier, &s.DRYMultiplier, 0, math.MaxFloat32},
		{"dry_base", p.DRYBase, &s.DRYBase, 0, math.MaxFloat32},
		{"mirostat_tau", p.MirostatTau, &s.MirostatTau, 0, math.MaxFloat32},
		{"mirostat_eta", p.MirostatEta, &s.MirostatEta, 0, 1},
		{"adaptive_decay", p.AdaptiveDecay, &s.AdaptiveDecay, 0, 0.99},
	} {
		if f.value == nil {
			continue
		}
		if *f.value < f.min || *f.value > f.max {
			return nil, badRequest("invalid_"+f.name, "%s is %g: it is out of range", f.name, *f.value)
		}
		*f.to = *f.value
	}
	if p.TopP != nil && *p.TopP == 0 {
		// To the library 0 means "off"; to a client it means "the most probable one only".
		s.TopP = math.SmallestNonzeroFloat32
	}
	if p.TopNSigma != nil {
		s.TopNSigma = max(*p.TopNSigma, 0) // llama-server's -1 is off
	}
	if p.AdaptiveTarget != nil {
		s.AdaptiveTarget = max(*p.AdaptiveTarget, 0)
	}
	for _, f := range []struct {
		name  string
		value *wholeNumber
		to    *int32
	}{
		{"dry_allowed_length", p.DRYAllowedLength, &s.DRYAllowedLength}, {"dry_penalty_last_n", p.DRYPenaltyLastN, &s.DRYPenaltyLastN},
		{"mirostat", p.Mirostat, &s.Mirostat}, {"min_keep", p.MinKeep, &s.MinKeep},
	} {
		if f.value == nil {
			continue
		}
		if *f.value < 0 || *f.value > math.MaxInt32 {
			return nil, badRequest("invalid_"+f.name, "%s is %d: it is out of range", f.name, *f.value)
		}
		*f.to = int32(*f.value)
	}
	s.DRYSequenceBreakers = p.DRYSequenceBreakers
	for _, name := range p.Samplers {
		s.Samplers = append(s.Samplers, llama.SamplerType(name))
	}
	if p.TopK != nil {
		s.TopK = int32(min(max(*p.TopK, 0), 1<<20)) // no vocabulary is larger
	}
	if p.RepeatLastN != nil {
		if *p.RepeatLastN < 0 {
			return nil, badRequest("invalid_repeat_last_n", "repeat_last_n is %d: it must be at least 0", *p.RepeatLastN)
		}
		s.PenaltyLastN = int32(min(*p.RepeatLastN, math.MaxInt32))
		if s.PenaltyLastN == 0 { // no penalties; to the library 0 means its default
			s.RepeatPenalty, s.PresencePenalty, s.FrequencyPenalty = 0, 0, 0
		}
	}
	if len(p.LogitBias) > 0 {
		s.LogitBias = make(map[llama.Token]float32, len(p.LogitBias))
		for id, bias := range p.LogitBias {
			s.LogitBias[llama.Token(id)] = bias
		}
	}
	return &s, nil
}
