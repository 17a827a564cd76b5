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

// wholeChat collects the answer and sends it at once.
func (s *Server) wholeChat(w http.ResponseWriter, r *http.Request, request engine.ChatRequest) error {
	var (
		content, reasoning strings.Builder
		calls              []toolCall
		result             *engine.Result
	)
	for delta, err := range s.engine.Chat(r.Context(), request) {
		if err != nil {
			return err
		}
		content.WriteString(delta.Content)
		reasoning.WriteString(delta.Reasoning)
		for _, call := range delta.ToolCalls {
			calls = mergeToolCall(calls, call)
		}
		if delta.Result != nil {
			result = delta.Result
		}
	}
	if result == nil {
		return internal(errNoResult)
	}
	answer := newCompletion("chat.completion", s.model.ID)
	text := content.String()
	msg := &message{Role: "assistant", Content: &text, ReasoningContent: reasoning.String(), ToolCalls: calls}
	answer.Choices = []choice{{Message: msg, FinishReason: finishReason(result.FinishReason)}}
	answer.Usage, answer.Timings = newUsage(result.Usage), newTimings(result)
	return writeJSON(w, http.StatusOK, answer)
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
	sendDelta := func(m *message, finish *string) error {
		chunk.Choices = []choice{{Delta: m, FinishReason: finish}}
		return stream.send(chunk)
	}
	var result *engine.Result
	for delta, err := range s.engine.Chat(r.Context(), request) {
		if err != nil {
			if !stream.started {
				return err
			}
			return s.endBroken(stream, asAPIError(r.Context(), err))
		}
		if !stream.started {
			empty := ""
			if err := sendDelta(&message{Role: "assistant", Content: &empty}, nil); err != nil {
				return err
			}
		}
		if delta.Result != nil {
			result = delta.Result
		}
		if m := deltaMessage(delta); m != nil {
			if err := sendDelta(m, nil); err != nil {
				return err
			}
		}
	}
	if result == nil {
		return s.endBroken(stream, internal(errNoResult))
	}
	if !withUsage {
		chunk.Timings = newTimings(result)
	}
	if err := sendDelta(&message{}, finishReason(result.FinishReason)); err != nil {
		return err
	}
	if withUsage {
		chunk.Choices, chunk.Usage, chunk.Timings = []choice{}, newUsage(result.Usage), newTimings(result)
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
