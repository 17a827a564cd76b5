package engine

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// ChatRequest asks for the next message of a conversation.
type ChatRequest struct {
	Messages []llama.ChatMessage
	// Tools are functions that the model may call. The caller runs them and
	// sends the results in messages of the role "tool".
	Tools []llama.Tool
	// ToolChoice is "" or "auto" (the model decides), "none" or "required".
	ToolChoice string
	// ParallelToolCalls allows several calls in one answer.
	ParallelToolCalls bool
	// Schema is a JSON schema, Grammar a GBNF grammar, that the answer
	// follows. At most one of them, and not with Tools.
	Schema  json.RawMessage
	Grammar string
	// MaxTokens is the most tokens to sample; 0 = until the model ends its
	// message or the context is full.
	MaxTokens int
	// Stop are texts that end the output; they do not become part of it.
	Stop []string
	// Sampling; nil = llama.DefaultSamplerParams(). Its Grammar counts as
	// Grammar.
	Sampling *llama.SamplerParams
	// IgnoreEOS forbids the end-of-generation tokens, until a grammar or a
	// schema allows nothing else.
	IgnoreEOS bool
	// EnableThinking; nil = as the template does by itself.
	EnableThinking *bool
	// CacheScope, as in [Request].
	CacheScope string
	// Pace, as in [Request].
	Pace time.Duration
	// Priority and Caller, as in [Request].
	Priority int
	Caller   string
	// ContextShift and NKeep, as in [Request].
	ContextShift bool
	NKeep        int
	// TemplateArgs are further variables of the chat template
	// (chat_template_kwargs), each a JSON value.
	TemplateArgs map[string]json.RawMessage
	// ReasoningFormat is "" for reasoning apart from the content, or "none" for
	// reasoning within it, as the model writes it; more names in
	// [llama.ChatTemplateRequest].
	ReasoningFormat string
	// Regex and Choices, as in [Request]; not with Tools.
	Regex   string
	Choices []string
	// N, Logprobs and Processor, as in [Request].
	N, Logprobs int
	Processor   LogitsProcessor
	// ReasoningBudget is the most tokens of the model's reasoning, where its template
	// marks it: then its end is put there and the answer follows. nil = no limit, 0 =
	// it ends as soon as it has begun.
	ReasoningBudget *int
	// Adapters, as in [Request].
	Adapters []AdapterScale
}

// Chat asks for the next message of a conversation, by the model's chat
// template. No text in Messages or Tools becomes a control token. The iterator
// behaves as that of [Engine.Generate].
//
// Where the last message is an assistant's without tool calls, the answer
// continues it: the deltas hold what comes after its text, or after its
// reasoning where it has no text yet.
//
// Where the template knows no tools, the system message describes them and a
// JSON schema enforces the form of the answer; the deltas look the same.
//
// # Errors
//
//   - [llama.ErrNoChatTemplate] where the model has none and Params.ChatTemplate is empty
//   - [llama.ErrChatTemplate] and [llama.ErrInvalidMessage] for a conversation that the template refuses
//   - those of [Engine.Generate]
func (e *Engine) Chat(ctx context.Context, r ChatRequest) iter.Seq2[ChatDelta, error] {
	if e.worker != nil {
		return isolatedStream(ctx, e.worker, "chat", "ChatRequest", r, func(d *ChatDelta) **Result { return &d.Result })
	}
	return func(yield func(ChatDelta, error) bool) {
		s, err := e.startChat(ctx, r)
		if err != nil {
			yield(ChatDelta{}, err)
			return
		}
		s.each(ctx, yield)
	}
}

// CountTokens returns the number of prompt tokens of a request, template and
// tools included. It computes nothing and does not wait in the queue.
//
// # Errors
//
//   - the error of ctx; [ErrClosed]; [*ErrWorkerDied] with Params.Isolated
//   - what the template and its request make [Engine.Chat] say: [llama.ErrChatTemplate], [llama.ErrInvalidParam],
//     [llama.ErrInvalidSchema], [llama.ErrInvalidGrammar]
func (e *Engine) CountTokens(ctx context.Context, r ChatRequest) (int, error) {
	if e.worker != nil {
		return isolatedCall[int](ctx, e.worker, "count", "ChatRequest", r)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := e.enter(); err != nil {
		return 0, err
	}
	defer e.leave()
	prompt, _, err := e.applyTemplate(ctx, r)
	if err != nil {
		return 0, err
	}
	return len(prompt.Tokens), nil
}

func (e *Engine) startChat(ctx context.Context, r ChatRequest) (_ *stream[ChatDelta], err error) {
	t, err := e.termsOfChat(&r)
	if err != nil {
		return nil, err
	}
	if err := e.admit(ctx, &t); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			e.leaveRequest(t.outputs())
		}
	}()
	form := constraint{schema: r.Schema, grammar: r.Grammar, regex: r.Regex, choices: r.Choices}
	params, err := e.sampling(t.kind, r.Sampling, form, r.IgnoreEOS)
	if err != nil {
		return nil, err
	}
	if r.Grammar, err = form.gbnf(); err != nil {
		return nil, err
	}
	// The request's own grammar comes back from the template, and is compiled then.
	if err := e.tryCompile(ctx, nil, params.Grammar); err != nil {
		return nil, err
	}
	if r.ReasoningBudget != nil {
		if *r.ReasoningBudget < 0 {
			return nil, invalid("ChatRequest.ReasoningBudget", "%d is negative: nil is no limit", *r.ReasoningBudget)
		}
		reasoning := llama.Reasoning{}
		if params.Reasoning != nil {
			reasoning = *params.Reasoning
		}
		reasoning.Budget = *r.ReasoningBudget
		params.Reasoning = &reasoning
	}
	prompt, inText, err := e.applyTemplate(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := e.checkPrompt(prompt.Tokens); err != nil {
		return nil, err
	}
	shown := map[llama.Token]bool{}
	for _, t := range prompt.PreservedTokens {
		shown[t] = true
	}
	o := outputs[ChatDelta]{
		n: t.outputs(), params: params,
		sampler: func(p llama.SamplerParams) (*llama.Sampler, error) { return prompt.Sampler(e.model, p) },
		renderer: func(i int) (renderer[ChatDelta], error) {
			c, err := newChatRenderer(prompt, inText)
			if err != nil {
				return nil, err
			}
			c.index, c.probs = i, e.probs(r.Logprobs)
			return c, nil
		},
	}
	o.sequence = func(s *llama.Sampler) (*sequence, error) {
		text := &textStream{
			vocab: e.model.Vocab(), shown: shown,
			stops: newStopMatcher(slices.Concat(prompt.Stops, r.Stop)),
		}
		var unforced func() (*llama.Sampler, error)
		if r.IgnoreEOS {
			unforced = func() (*llama.Sampler, error) {
				return prompt.Sampler(e.model, llama.SamplerParams{Grammar: params.Grammar})
			}
		}
		return e.newSequence(ctx, &t, prompt.Tokens, s, text, unforced)
	}
	return o.start(ctx, e)
}

// applyTemplate renders the conversation; inText says that tools had to be
// described in text.
func (e *Engine) applyTemplate(ctx context.Context, r ChatRequest) (prompt *llama.ChatPrompt, inText bool, err error) {
	if e.template == nil {
		return nil, false, llama.ErrNoChatTemplate
	}
	if err := e.checkLength(contentBytes(r.Messages)); err != nil {
		return nil, false, err
	}
	tools := len(r.Tools) > 0 && r.ToolChoice != "none"
	if tools && (len(r.Schema) > 0 || r.Grammar != "" || r.Regex != "" || len(r.Choices) > 0 || r.Sampling != nil && r.Sampling.Grammar != "") {
		return nil, false, invalid("ChatRequest.Tools", "cannot be combined with Schema, Grammar, Regex or Choices, which leave no room for a tool call")
	}
	t := llama.ChatTemplateRequest{
		Messages: r.Messages, Tools: r.Tools, ToolChoice: r.ToolChoice, ParallelToolCalls: r.ParallelToolCalls,
		Schema: r.Schema, Grammar: r.Grammar, AddGenerationPrompt: true, EnableThinking: r.EnableThinking,
		Args: r.TemplateArgs, ReasoningFormat: r.ReasoningFormat,
	}
	if err := continueLast(&t); err != nil {
		return nil, false, err
	}
	prompt, err = e.template.apply(ctx, t)
	if err != nil || !tools || prompt.Grammar != "" {
		return prompt, false, err
	}
	if t.ContinueFinalMessage != "" {
		return nil, false, invalid("ChatRequest.Messages", "end with an assistant's message, which cannot be continued with Tools: the template has no form for them")
	}
	if t, err = withToolsInText(t); err != nil {
		return nil, false, err
	}
	prompt, err = e.template.apply(ctx, t)
	return prompt, true, err
}

// continueLast makes the answer go on with the last message where that is an
// assistant's.
func continueLast(t *llama.ChatTemplateRequest) error {
	n := len(t.Messages)
	if n == 0 || t.Messages[n-1].Role != "assistant" || len(t.Messages[n-1].ToolCalls) > 0 {
		return nil
	}
	if n > 1 && t.Messages[n-2].Role == "assistant" {
		return invalid("ChatRequest.Messages", "end with two messages of the assistant: join them, the answer continues the last one")
	}
	if last := t.Messages[n-1]; last.Content == "" && last.ReasoningContent == "" {
		t.Messages = t.Messages[:n-1]
		return nil
	}
	t.ContinueFinalMessage = "auto"
	return nil
}

// contentBytes is the length of what every template shows.
func contentBytes(messages []llama.ChatMessage) int {
	n := 0
	for _, m := range messages {
		n += len(m.Content)
	}
	return n
}
