package server

import (
	"net/http"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// chatCompletions answers POST /v1/chat/completions.
func (s *Server) chatCompletions(w http.ResponseWriter, r *http.Request) error {
	var q chatCompletionRequest
	if err := s.readJSON(w, r, &q); err != nil {
		return err
	}
	request, err := q.engineRequest()
	if err != nil {
		return err
	}
	if q.Stream {
		withUsage := q.StreamOptions != nil && q.StreamOptions.IncludeUsage
		return s.streamChat(w, r, request, withUsage)
	}
	return s.wholeChat(w, r, request)
}

// reply is what has come of one choice.
type reply struct {
	content, reasoning strings.Builder
	calls              []toolCall
	logprobs           []engine.TokenLogprobs
	result             *engine.Result
	begun              bool // its first chunk was sent
}

// totals adds up what choices cost; they share their prompt.
func totals(answers []reply) (*usage, *timings) {
	u := answers[0].result.Usage
	for _, a := range answers[1:] {
		u.Output += a.result.Usage.Output
	}
	return newUsage(u), newTimings(answers[0].result)
}

// wholeChat collects the answers and sends them at once.
func (s *Server) wholeChat(w http.ResponseWriter, r *http.Request, request engine.ChatRequest) error {
	answers := make([]reply, max(request.N, 1))
	for delta, err := range s.engine.Chat(r.Context(), request) {
		if err != nil {
			return err
		}
		a := &answers[delta.Index]
		a.content.WriteString(delta.Content)
		a.reasoning.WriteString(delta.Reasoning)
		a.logprobs = append(a.logprobs, delta.Logprobs...)
		for _, call := range delta.ToolCalls {
			a.calls = mergeToolCall(a.calls, call)
		}
		if delta.Result != nil {
			a.result = delta.Result
		}
	}
	whole := newCompletion("chat.completion", s.model.ID)
	for i := range answers {
		a := &answers[i]
		if a.result == nil {
			return internal(errNoResult)
		}
		text := a.content.String()
		msg := &message{Role: "assistant", Content: &text, ReasoningContent: a.reasoning.String(), ToolCalls: a.calls}
		whole.Choices = append(whole.Choices, choice{Index: i, Message: msg, FinishReason: finishReason(a.result.FinishReason), Logprobs: newLogprobs(a.logprobs)})
	}
	whole.Usage, whole.Timings = totals(answers)
	return writeJSON(w, http.StatusOK, whole)
}

// mergeToolCall adds a delta to the calls it belongs to; a new index begins a call.
func mergeToolCall(calls []toolCall, d engine.ToolCallDelta) []toolCall {
	if d.Index >= len(calls) {
		calls = append(calls, toolCall{Type: "function"})
	}
	call := &calls[min(d.Index, len(calls)-1)]
	call.ID += d.ID
	call.Function.Name += d.Name
	call.Function.Arguments += d.Arguments
	return calls
}

// streamChat sends each delta as it comes. Leaving the loop, as a write to a client
// that has gone does, cancels the generation.
func (s *Server) streamChat(w http.ResponseWriter, r *http.Request, request engine.ChatRequest, withUsage bool) error {
	stream := &eventStream{w: w}
	chunk := newCompletion("chat.completion.chunk", s.model.ID)
	send := func(c choice) error {
		chunk.Choices = []choice{c}
		return stream.send(chunk)
	}
	answers := make([]reply, max(request.N, 1))
	for delta, err := range s.engine.Chat(r.Context(), request) {
		if err != nil {
			if !stream.started {
				return err
			}
			return s.endBroken(stream, asAPIError(r.Context(), err))
		}
		a := &answers[delta.Index]
		if !a.begun {
			a.begun = true
			empty := ""
			if err := send(choice{Index: delta.Index, Delta: &message{Role: "assistant", Content: &empty}}); err != nil {
				return err
			}
		}
		probs := newLogprobs(delta.Logprobs)
		if m := deltaMessage(delta); m != nil || probs != nil {
			if m == nil {
				m = &message{}
			}
			if err := send(choice{Index: delta.Index, Delta: m, Logprobs: probs}); err != nil {
				return err
			}
		}
		if a.result = delta.Result; a.result == nil {
			continue
		}
		if !withUsage {
			chunk.Timings = newTimings(a.result)
		}
		if err := send(choice{Index: delta.Index, Delta: &message{}, FinishReason: finishReason(a.result.FinishReason)}); err != nil {
			return err
		}
		chunk.Timings = nil
	}
	for i := range answers {
		if answers[i].result == nil {
			return s.endBroken(stream, internal(errNoResult))
		}
	}
	if withUsage {
		chunk.Choices = []choice{}
		chunk.Usage, chunk.Timings = totals(answers)
		if err := stream.send(chunk); err != nil {
			return err
		}
	}
	return stream.done()
}

// endBroken tells the client why its stream ends early, and the log too.
func (s *Server) endBroken(stream *eventStream, err *apiError) error {
	if err.status == statusClientGone {
		return err
	}
	if sendErr := stream.fail(err); sendErr != nil {
		return sendErr
	}
	err.sent = true
	return err
}

// deltaMessage returns nil where the delta has nothing for the client.
func deltaMessage(d engine.ChatDelta) *message {
	m := &message{ReasoningContent: d.Reasoning}
	if d.Content != "" {
		m.Content = &d.Content
	}
	for _, call := range d.ToolCalls {
		index, kind := call.Index, ""
		if call.ID != "" {
			kind = "function"
		}
		m.ToolCalls = append(m.ToolCalls, toolCall{
			Index: &index, ID: call.ID, Type: kind,
			Function: toolFunction{Name: call.Name, Arguments: call.Arguments},
		})
	}
	if m.Content == nil && m.ReasoningContent == "" && len(m.ToolCalls) == 0 {
		return nil
	}
	return m
}
