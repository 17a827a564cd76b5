package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Streams of two tokens, as llama-server and as our server send them.
const (
	theirStream = `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"\"Hi"}}],"object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" \\\"content\\\":\\\"x"}}],"object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"timings":{"cache_n":5,"prompt_n":7,"prompt_ms":1.5,"predicted_n":2}}

data: [DONE]

`
	ourStream = `data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"\"Hi"},"finish_reason":null}]}

data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":" \\\"content\\\":\\\"x"},"finish_reason":null}]}

data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{},"finish_reason":"length"}],"timings":{"cache_n":5,"prompt_n":7,"predicted_n":2}}

data: [DONE]

`
)

func serve(t *testing.T, status int, body string) client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return client{url: s.URL, keep: true}
}

func TestAsk(t *testing.T) {
	for name, stream := range map[string]string{"llama-server": theirStream, "lm-sandbox": ourStream} {
		t.Run(name, func(t *testing.T) {
			pieces := 0
			cl := serve(t, http.StatusOK, stream)
			cl.seen = func(n int) { pieces = n }
			a, err := cl.ask(t.Context(), newChat(2))
			require.NoError(t, err)
			assert.Len(t, a.deltas, 2)
			assert.Equal(t, 2, pieces)
			assert.Len(t, a.gaps(), 1)
			assert.Positive(t, a.first())
			assert.Equal(t, timings{CacheN: 5, PromptN: 7, PredictedN: 2}, a.timings)
			text, err := a.text()
			require.NoError(t, err)
			assert.Equal(t, `"Hi \"content\":\"x`, text)
		})
	}
}

func TestAskFails(t *testing.T) {
	for _, test := range []struct {
		name, body, want string
		status, tokens   int
	}{
		{"status", "no room", "429 Too Many Requests: no room", 429, 2},
		{"too few tokens", ourStream, "2 tokens instead of 3", 200, 3},
		{"no text", "data: [DONE]\n\n", "without text", 200, 2},
		{"broken", "data: {\"error\":{\"message\":\"gone\"}}\n\n", "gone", 200, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := serve(t, test.status, test.body).ask(t.Context(), newChat(test.tokens))
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestCrowd(t *testing.T) {
	start := time.Now()
	at := func(seconds ...float64) *answer {
		a := &answer{start: start.Add(time.Duration(seconds[0] * 1e9)), timings: timings{PromptN: 3, CacheN: 4}}
		for _, s := range seconds[1:] {
			a.deltas = append(a.deltas, start.Add(time.Duration(s*1e9)))
		}
		a.end = a.deltas[len(a.deltas)-1]
		return a
	}
	c := crowd{at(0, 1, 2, 5), at(0.5, 3, 4, 6)}
	m := metrics{}
	c.measures(m, "x")
	assert.Equal(t, metrics{"x wall": 6, "x first p50": 1.75, "x gap p99": 3, "x computed": 6, "x cached": 8}, m)
	second := func(s float64) time.Time { return start.Add(time.Duration(s * 1e9)) }
	assert.Equal(t, 3.0, c.longestGap(second(2.5), second(3)))
	assert.Equal(t, 1.0, c.longestGap(second(1.5), second(1.9)))
	assert.Zero(t, c.longestGap(second(7), second(8)))
}

// Both servers know the same requests.
func TestQuestions(t *testing.T) {
	shared, different := questions(1, 1), questions(1, 1, 2)
	assert.Len(t, shared, clients)
	assert.Equal(t, shared[0].Messages[0], shared[1].Messages[0])
	assert.NotEqual(t, shared[0].Messages[1], shared[1].Messages[1])
	assert.NotEqual(t, different[0].Messages[0], different[1].Messages[0])
	assert.Equal(t, fmt.Sprint(shared), fmt.Sprint(questions(1, 1)))
}
