package engine

import (
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// FinishReason says why a request ended.
type FinishReason string

// Why a request ended.
const (
	FinishStop      FinishReason = "stop"       // an end-of-generation token or a stop string
	FinishLength    FinishReason = "length"     // MaxTokens
	FinishToolCalls FinishReason = "tool_calls" // the model asks for tools (Chat only)
	FinishCancelled FinishReason = "cancelled"  // the caller's context was done
	FinishContext   FinishReason = "context"    // the context is full
)

// Delta is a piece of the output of [Engine.Generate]. What arrives within 48 ms,
// or while the consumer is busy, may be merged into one delta.
type Delta struct {
	// Text is valid UTF-8, and may be empty. Bytes of an unfinished character and text that may
	// become a stop string are held back until they are decided.
	Text string
	// Tokens are the tokens sampled since the last delta, the end-of-generation
	// token included, whether or not their text is shown already.
	Tokens []llama.Token
	// Result is set in the last delta only; with Request.N in the last one of each output.
	Result *Result
	// Index says which of Request.N outputs this is a piece of.
	Index int
	// Logprobs are those of Tokens, where Request.Logprobs asks for them.
	Logprobs []TokenLogprobs
}

// TokenLogprobs are the probabilities at the place of one output token, as natural
// logarithms: of the softmax of the model's logits, after a Processor, before anything
// that the samplers do. llama-server and OpenAI's API give the same.
type TokenLogprobs struct {
	TokenLogprob                // the token that was chosen
	Top          []TokenLogprob // the Logprobs-1 likeliest ones, best first
}

// TokenLogprob is one token with the logarithm of its probability.
type TokenLogprob struct {
	Token   llama.Token
	Logprob float32
	Text    string // its bytes, which need not be UTF-8; a control token's name
}

// ChatDelta is a piece of the output of [Engine.Chat].
type ChatDelta struct {
	Content   string          // text of the answer
	Reasoning string          // text of the model's reasoning, where its template marks it
	ToolCalls []ToolCallDelta // pieces of tool calls, ordered by Index
	Result    *Result         // set in the last delta only; with ChatRequest.N in the last one of each output
	Index     int             // of ChatRequest.N outputs
	Logprobs  []TokenLogprobs // of the tokens sampled since the last delta, whether or not their text is shown already
}

// ToolCallDelta is a piece of one tool call. The first piece of an Index
// carries ID and Name; the Arguments of all its pieces, joined, are JSON.
type ToolCallDelta struct {
	Index     int
	ID        string
	Name      string
	Arguments string
}

// Result describes a finished request.
type Result struct {
	FinishReason FinishReason
	Usage        Usage
	Timings      Timings
	// Seed is the one that was used: with it, the same request gives the same
	// output, as far as the logits are the same. They differ in their last bits
	// when other requests share the steps (another batch shape).
	Seed uint32
}

// Usage counts tokens.
type Usage struct {
	Prompt   int // tokens of the prompt
	Cached   int // of them taken from memory instead of computed
	Computed int // of them computed; those computed again after a preemption count again
	Output   int // tokens sampled, the end-of-generation token included
	Drafted  int // tokens guessed and computed (Params.Speculative)
	Accepted int // of them part of the output, but for those behind its end
}

// Timings are wall-clock times of one request.
type Timings struct {
	Queue  time.Duration // from the submission to the first step
	Prompt time.Duration // from there to the first output token
	Decode time.Duration // from there to the last output token: Usage.Output-1 tokens
}
