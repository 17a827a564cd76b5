package server

import (
	"net/http"
)

// eventStream writes server-sent events of JSON, one flush each, in the way of
// OpenAI's streaming API. The headers go out with the first event: until then a
// failure can still be answered with its status.
type eventStream struct {
	w       http.ResponseWriter
	started bool
}

func (s *eventStream) send(v any) error {
	body, err := marshal(v) // ends in a newline
	if err != nil {
		return err
	}
	return s.write(body)
}

// done ends the stream as OpenAI's clients expect.
func (s *eventStream) done() error { return s.write([]byte("[DONE]\n")) }

// fail ends a stream that has begun: its clients take an event with "error" for the
// failure of the request.
func (s *eventStream) fail(err *apiError) error { return s.send(err.body()) }

func (s *eventStream) write(line []byte) error {
	if !s.started {
		s.started = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("X-Accel-Buffering", "no") // nginx would hold the events back
	}
	event := make([]byte, 0, len("data: ")+len(line)+1)
	event = append(event, "data: "...)
	event = append(event, line...)
	event = append(event, '\n')
	if _, err := s.w.Write(event); err != nil {
		return clientGone(err)
	}
	if err := http.NewResponseController(s.w).Flush(); err != nil {
		return clientGone(err)
	}
	return nil
}
