package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// message is one of a conversation.
type message struct {
	Role       string `json:"role"`
	Content    string `json:"content"`
	ToolCallID string `json:"tool_call_id,omitempty"`
}

// chat is a request for a streamed chat completion.
type chat struct {
	Messages       []message `json:"messages"`
	MaxTokens      int       `json:"max_tokens"`
	IgnoreEOS      bool      `json:"ignore_eos"`
	Temperature    float64   `json:"temperature"`
	Stream         bool      `json:"stream"`
	ResponseFormat any       `json:"response_format,omitempty"`
}

// newChat is answered greedily with exactly so many tokens.
func newChat(maxTokens int, messages ...message) chat {
	return chat{Messages: messages, MaxTokens: maxTokens, IgnoreEOS: true, Stream: true}
}

// timings are llama-server's of an answer, which our server gives too.
type timings struct {
	CacheN     int `json:"cache_n"`     // prompt tokens from the cache
	PromptN    int `json:"prompt_n"`    // prompt tokens computed
	PredictedN int `json:"predicted_n"` // tokens sampled
}

// answer is what a client saw of one request.
type answer struct {
	start, end time.Time
	deltas     []time.Time // when each piece of text came
	timings    timings
	lines      [][]byte // the events with text, if they are kept
}

// first is the time to the first piece of text, in seconds.
func (a *answer) first() float64 { return a.deltas[0].Sub(a.start).Seconds() }

// gaps are the times between the pieces, in seconds.
func (a *answer) gaps() []float64 {
	gaps := make([]float64, 0, len(a.deltas))
	for i := 1; i < len(a.deltas); i++ {
		gaps = append(gaps, a.deltas[i].Sub(a.deltas[i-1]).Seconds())
	}
	return gaps
}

// text is the whole answer; its lines must have been kept.
func (a *answer) text() (string, error) {
	var b bytes.Buffer
	for _, line := range a.lines {
		var event struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return "", err
		}
		for _, c := range event.Choices {
			b.WriteString(c.Delta.Content)
		}
	}
	return b.String(), nil
}

// client sends requests to one server. Reading a stream parses nothing, because the
// client shares the cores with the server: text is recognised in the bytes.
type client struct {
	url  string
	keep bool              // the lines of text
	seen func(pieces int)  // is told after each piece; may be nil
	http http.RoundTripper // nil = a connection of its own for each request
}

// ask sends c and reads the stream to its end.
func (cl client) ask(ctx context.Context, c chat) (*answer, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, cl.url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	transport := cl.http
	if transport == nil {
		own := &http.Transport{DisableCompression: true}
		defer own.CloseIdleConnections()
		transport = own
	}
	a := &answer{start: time.Now(), deltas: make([]time.Time, 0, c.MaxTokens)}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return nil, fmt.Errorf("%s: %s", response.Status, text)
	}
	if err := cl.read(response.Body, a); err != nil {
		return a, err
	}
	a.end = time.Now()
	switch {
	case len(a.deltas) == 0:
		return nil, fmt.Errorf("an answer without text")
	case c.IgnoreEOS && a.timings.PredictedN != c.MaxTokens:
		return nil, fmt.Errorf("%d tokens instead of %d", a.timings.PredictedN, c.MaxTokens)
	}
	return a, nil
}

func (cl client) read(stream io.Reader, a *answer) error {
	lines := bufio.NewReaderSize(stream, 1<<16)
	for {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		event, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok {
			continue
		}
		if hasText(event) {
			a.deltas = append(a.deltas, time.Now())
			if cl.keep {
				a.lines = append(a.lines, bytes.Clone(event))
			}
			if cl.seen != nil {
				cl.seen(len(a.deltas))
			}
		}
		if bytes.Contains(event, []byte(`"timings":`)) {
			var last struct {
				Timings timings `json:"timings"`
			}
			if err := json.Unmarshal(event, &last); err != nil {
				return err
			}
			a.timings = last.Timings
		}
		if bytes.HasPrefix(event, []byte(`{"error"`)) {
			return fmt.Errorf("the stream ended with %s", event)
		}
	}
}

// hasText says whether an event carries text. JSON escapes quotes, so these bytes
// are never part of a text.
func hasText(event []byte) bool {
	_, rest, ok := bytes.Cut(event, []byte(`"content":"`))
	return ok && len(rest) > 0 && rest[0] != '"'
}
