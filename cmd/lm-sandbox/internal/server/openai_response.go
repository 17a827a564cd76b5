package server

import (
	"crypto/rand"
	"strings"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// completion is OpenAI's chat.completion, or a chat.completion.chunk of a stream.
type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitempty"`
	Timings *timings `json:"timings,omitempty"`
}

func newCompletion(object, model string) completion {
	return completion{ID: "chatcmpl-" + rand.Text(), Object: object, Created: time.Now().Unix(), Model: model}
}

type choice struct {
	Index        int      `json:"index"`
	Message      *message `json:"message,omitempty"`
	Delta        *message `json:"delta,omitempty"`
	FinishReason *string  `json:"finish_reason"`

	Logprobs *logprobs `json:"logprobs,omitempty"`
}

// logprobs holds the probabilities of the tokens of an answer, or of a piece of one.
type logprobs struct {
	Content []tokenLogprobs `json:"content"`
}

type tokenLogprobs struct {
	tokenLogprob
	TopLogprobs []tokenLogprob `json:"top_logprobs"`
}

type tokenLogprob struct {
	Token   string  `json:"token"`
	Logprob float32 `json:"logprob"`
	Bytes   []int   `json:"bytes"`
}

// newLogprobs returns nil for none.
func newLogprobs(tokens []engine.TokenLogprobs) *logprobs {
	if len(tokens) == 0 {
		return nil
	}
	l := &logprobs{}
	for _, t := range tokens {
		one := tokenLogprobs{tokenLogprob: newTokenLogprob(t.TokenLogprob), TopLogprobs: []tokenLogprob{}}
		for _, top := range t.Top {
			one.TopLogprobs = append(one.TopLogprobs, newTokenLogprob(top))
		}
		l.Content = append(l.Content, one)
	}
	return l
}

// leastLogprob stands for -Inf, which JSON does not have; OpenAI's number.
const leastLogprob = -9999

func newTokenLogprob(t engine.TokenLogprob) tokenLogprob {
	one := tokenLogprob{Token: strings.ToValidUTF8(t.Text, "\uFFFD"), Logprob: max(t.Logprob, leastLogprob), Bytes: []int{}}
	for _, b := range []byte(t.Text) {
		one.Bytes = append(one.Bytes, int(b))
	}
	return one
}

// message is a whole answer, or in a stream what is new in it.
type message struct {
	Role             string     `json:"role,omitempty"`
	Content          *string    `json:"content,omitempty"`
	ReasoningContent string     `json:"reasoning_content,omitempty"`
	ToolCalls        []toolCall `json:"tool_calls,omitempty"`
}

type toolCall struct {
	Index    *int         `json:"index,omitempty"` // in a stream only
	ID       string       `json:"id,omitempty"`
	Type     string       `json:"type,omitempty"`
	Function toolFunction `json:"function"`
}

type toolFunction struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

type usage struct {
	PromptTokens        int                 `json:"prompt_tokens"`
	CompletionTokens    int                 `json:"completion_tokens"`
	TotalTokens         int                 `json:"total_tokens"`
	PromptTokensDetails promptTokensDetails `json:"prompt_tokens_details"`
}

type promptTokensDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

func newUsage(u engine.Usage) *usage {
	return &usage{
		PromptTokens: u.Prompt, CompletionTokens: u.Output, TotalTokens: u.Prompt + u.Output,
		PromptTokensDetails: promptTokensDetails{CachedTokens: u.Cached},
	}
}

// timings is llama-server's report of where the time went.
type timings struct {
	CacheN              int     `json:"cache_n"`
	PromptN             int     `json:"prompt_n"`
	PromptMS            float64 `json:"prompt_ms"`
	PromptPerTokenMS    float64 `json:"prompt_per_token_ms"`
	PromptPerSecond     float64 `json:"prompt_per_second"`
	PredictedN          int     `json:"predicted_n"`
	PredictedMS         float64 `json:"predicted_ms"`
	PredictedPerTokenMS float64 `json:"predicted_per_token_ms"`
	PredictedPerSecond  float64 `json:"predicted_per_second"`
}

func newTimings(r *engine.Result) *timings {
	t := &timings{
		CacheN: r.Usage.Cached, PromptN: r.Usage.Computed, PromptMS: milliseconds(r.Timings.Prompt),
		PredictedN: r.Usage.Output, PredictedMS: milliseconds(r.Timings.Decode),
	}
	t.PromptPerTokenMS, t.PromptPerSecond = rates(t.PromptN, t.PromptMS)
	// The first token comes from the prompt's last step: the time is that of the others.
	t.PredictedPerTokenMS, t.PredictedPerSecond = rates(t.PredictedN-1, t.PredictedMS)
	return t
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func rates(n int, ms float64) (perTokenMS, perSecond float64) {
	if n <= 0 || ms <= 0 { // JSON has no infinity
		return 0, 0
	}
	return ms / float64(n), 1000 * float64(n) / ms
}

// finishReason maps the engine's to OpenAI's, which has one word for all limits.
func finishReason(r engine.FinishReason) *string {
	reason := "stop"
	switch r {
	case engine.FinishLength, engine.FinishContext:
		reason = "length"
	case engine.FinishToolCalls:
		reason = "tool_calls"
	}
	return &reason
}
