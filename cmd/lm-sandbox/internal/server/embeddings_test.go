package server

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

func TestClientEmbeddings(t *testing.T) {
	c, name := serveReal(t)
	e, _ := realEngine(t)
	texts := []string{"The sky is blue.", "A cow is brown."}
	var usage engine.Usage
	want, err := e.Embed(t.Context(), texts, engine.EmbedOptions{Usage: &usage})
	require.NoError(t, err)
	answer, err := c.Embeddings.New(t.Context(), openai.EmbeddingNewParams{
		Model: "any", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: texts},
	})
	require.NoError(t, err)
	require.Equal(t, name, answer.Model)
	require.EqualValues(t, usage.Prompt, answer.Usage.PromptTokens)
	require.EqualValues(t, usage.Prompt, answer.Usage.TotalTokens)
	require.Len(t, answer.Data, 2)
	for i, d := range answer.Data {
		require.EqualValues(t, i, d.Index)
		require.Len(t, d.Embedding, len(want[i]))
		dot := 0.0
		for k, x := range d.Embedding {
			dot += x * float64(want[i][k])
		}
		require.InDelta(t, 1, dot, 1e-5)
	}
}

func TestEmbeddingsForms(t *testing.T) {
	e, name := realEngine(t)
	url := start(t, newServer(t, Options{Engine: e, ModelName: name})) + "/v1/embeddings"
	toks, err := e.Model().Vocab().Tokenize("The sky is blue.", true, false)
	require.NoError(t, err)
	tokens, err := json.Marshal(toks)
	require.NoError(t, err)
	embed := func(body string) (out []json.RawMessage) {
		a := post(t, url, body)
		require.Equal(t, http.StatusOK, a.status, a.body)
		var answer struct {
			Data []struct{ Embedding json.RawMessage }
		}
		require.NoError(t, json.Unmarshal([]byte(a.body), &answer))
		for _, d := range answer.Data {
			out = append(out, d.Embedding)
		}
		return out
	}
	floats := func(raw json.RawMessage) (v []float32) {
		require.NoError(t, json.Unmarshal(raw, &v))
		return v
	}
	want := floats(embed(`{"input":"The sky is blue."}`)[0])
	for _, body := range []string{`{"input":["The sky is blue."]}`, `{"input":` + string(tokens) + `}`, `{"input":[` + string(tokens) + `],"encoding_format":"float"}`} {
		require.InDeltaSlice(t, want, floats(embed(body)[0]), 1e-4, body)
	}
	var text string
	require.NoError(t, json.Unmarshal(embed(`{"input":"The sky is blue.","encoding_format":"base64"}`)[0], &text))
	raw, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	require.Len(t, raw, 4*len(want))
	for i, x := range want {
		require.InDelta(t, x, math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])), 1e-4)
	}
	most := float32(0)
	for _, x := range floats(embed(`{"input":"The sky is blue.","embd_normalize":0}`)[0]) {
		most = max(most, x, -x)
	}
	require.InDelta(t, 32760, most, 1)

	for body, code := range map[string]string{
		`{}`: "missing_input", `{"input":[]}`: "missing_input", `{"input":[` + strings.Repeat(`"x",`, 2048) + `"x"]}`: "too_many_inputs", `{"input":{}}`: "invalid_type", `{"input":[1.5]}`: "invalid_type",
		`{"input":"x","dimensions":8}`:           "unsupported_dimensions",
		`{"input":"x","encoding_format":"int8"}`: "invalid_encoding_format",
		`{"input":"x","embd_normalize":7}`:       "invalid_embd_normalize",
		`{"input":[[1,2],[123456789]]}`:          "invalid_token",
		`{"input":[""]}`:                         "invalid_request",
	} {
		a := post(t, url, body)
		require.Equal(t, http.StatusBadRequest, a.status, body)
		require.Equal(t, code, a.failure(t).Code, body)
	}
	a := post(t, url, `{"input":["x","`+string(make4k())+`"]}`)
	require.Equal(t, "context_length_exceeded", a.failure(t).Code)
	require.Contains(t, a.failure(t).Message, "text 1 has")
	// no reranker
	a = post(t, url[:len(url)-len("embeddings")]+"rerank", `{"query":"q","documents":["d"]}`)
	require.Equal(t, "unsupported", a.failure(t).Code)
}

// make4k is a text of more tokens than the most.
func make4k() []byte {
	out := make([]byte, 8192)
	for i := range out {
		out[i] = "a "[i%2]
	}
	return out
}

// ranker scores a document by its length.
type ranker struct {
	scripted
	query string
}

func (r *ranker) Embed(context.Context, []string, engine.EmbedOptions) ([][]float32, error) {
	return nil, engine.ErrBusy
}

func (r *ranker) EmbedTokens(context.Context, [][]llama.Token, engine.EmbedOptions) ([][]float32, error) {
	return nil, engine.ErrClosed
}

func (r *ranker) Rerank(_ context.Context, query string, documents []string, o engine.RerankOptions) ([]engine.Score, error) {
	r.query = query
	o.Usage.Prompt = 7
	out := []engine.Score{{Index: len(documents) - 1, Score: 0.5}, {Index: 0, Score: -1}}
	return out[:min(len(out), max(1, o.TopN))], nil
}

func TestRerankAnswer(t *testing.T) {
	r := &ranker{}
	url := start(t, newServer(t, Options{Engine: r}))
	rerank := func(body string) answer { return post(t, url+"/v1/rerank", body) }
	a := rerank(`{"query":"how?","documents":["a",{"text":"b"}],"top_n":9,"return_documents":true}`)
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.JSONEq(t, `{"object":"list","model":"test-model","usage":{"prompt_tokens":7,"total_tokens":7},
		"results":[{"index":1,"relevance_score":0.5,"document":{"text":"b"}},{"index":0,"relevance_score":-1,"document":{"text":"a"}}]}`, a.body)
	require.Equal(t, "how?", r.query)
	a = rerank(`{"query":"","documents":["a","b"],"top_n":1}`)
	require.JSONEq(t, `{"object":"list","model":"test-model","usage":{"prompt_tokens":7,"total_tokens":7},"results":[{"index":1,"relevance_score":0.5}]}`, a.body)
	for body, code := range map[string]string{
		`{"documents":["a"]}`: "missing_query", `{"query":"q"}`: "missing_documents", `{"query":"q","documents":[]}`: "missing_documents",
		`{"query":"q","documents":[` + strings.Repeat(`"x",`, 2048) + `"x"]}`: "too_many_documents",
		`{"query":"q","documents":[1]}`:                                       "invalid_type", `{"query":"q","documents":[{}]}`: "invalid_type", `{"query":"q","documents":[null]}`: "invalid_type",
		`{"query":"q","documents":["a"],"top_n":0}`: "invalid_top_n", `{"query":1,"documents":["a"]}`: "invalid_type",
	} {
		require.Equal(t, code, rerank(body).failure(t).Code, body)
	}
	a = post(t, url+"/v1/embeddings", `{"input":"x"}`)
	require.Equal(t, http.StatusTooManyRequests, a.status)
	a = post(t, start(t, newServer(t, Options{}))+"/v1/embeddings", `{"input":"x"}`)
	require.Equal(t, "unsupported", a.failure(t).Code)
}
