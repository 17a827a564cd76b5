package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// Embedder is what an [Engine] is that embeds and ranks too: [engine.Engine].
type Embedder interface {
	Embed(ctx context.Context, texts []string, o engine.EmbedOptions) ([][]float32, error)
	EmbedTokens(ctx context.Context, texts [][]llama.Token, o engine.EmbedOptions) ([][]float32, error)
	Rerank(ctx context.Context, query string, documents []string, o engine.RerankOptions) ([]engine.Score, error)
}

func (s *Server) embedder() (Embedder, error) {
	if e, ok := s.engine.(Embedder); ok {
		return e, nil
	}
	return nil, llama.ErrUnsupported
}

// mostTexts bounds what one request may have embedded or ranked, as OpenAI does.
const mostTexts = 2048

type embeddingsRequest struct {
	Input          embeddingsInput `json:"input"`
	EncodingFormat string          `json:"encoding_format"`
	Dimensions     *wholeNumber    `json:"dimensions"`
	EmbdNormalize  *wholeNumber    `json:"embd_normalize"` // llama-server's own
}

// embeddingsInput is one text or several, as text or as tokens.
type embeddingsInput struct {
	texts  []string
	tokens [][]llama.Token
}

// UnmarshalJSON implements [json.Unmarshaler].
func (in *embeddingsInput) UnmarshalJSON(data []byte) error {
	var text string
	var tokens []llama.Token
	switch {
	case isNull(data):
		return nil
	case json.Unmarshal(data, &text) == nil:
		in.texts = []string{text}
	case json.Unmarshal(data, &in.texts) == nil:
	case json.Unmarshal(data, &tokens) == nil:
		in.texts, in.tokens = nil, [][]llama.Token{tokens}
	case json.Unmarshal(data, &in.tokens) == nil:
		in.texts = nil
	default:
		return badRequest("invalid_type", "field \"input\" must be a text, an array of texts, an array of tokens, or an array of those")
	}
	return nil
}

type embeddingsAnswer struct {
	Object string            `json:"object"`
	Data   []embeddingObject `json:"data"`
	Model  string            `json:"model"`
	Usage  inputUsage        `json:"usage"`
}

type embeddingObject struct {
	Object    string `json:"object"`
	Index     int    `json:"index"`
	Embedding any    `json:"embedding"` // numbers, or base64 of little-endian float32
}

// inputUsage is the usage of what has no output.
type inputUsage struct {
	PromptTokens int `json:"prompt_tokens"`
	TotalTokens  int `json:"total_tokens"`
}

// embeddings answers POST /v1/embeddings.
func (s *Server) embeddings(w http.ResponseWriter, r *http.Request) error {
	var q embeddingsRequest
	if err := s.readJSON(w, r, &q); err != nil {
		return err
	}
	var usage engine.Usage
	o := engine.EmbedOptions{Usage: &usage}
	switch {
	case len(q.Input.texts)+len(q.Input.tokens) == 0:
		return badRequest("missing_input", "field \"input\" is missing or empty")
	case len(q.Input.texts)+len(q.Input.tokens) > mostTexts:
		return badRequest("too_many_inputs", "field \"input\" has %d texts: at most %d", len(q.Input.texts)+len(q.Input.tokens), mostTexts)
	case q.Dimensions != nil:
		return badRequest("unsupported_dimensions", "dimensions cannot be chosen: leave the field out")
	case q.EncodingFormat != "" && q.EncodingFormat != "float" && q.EncodingFormat != "base64":
		return badRequest("invalid_encoding_format", "encoding_format is %q: it must be float or base64", q.EncodingFormat)
	}
	if n := q.EmbdNormalize; n != nil {
		norm, ok := map[wholeNumber]engine.Norm{-1: engine.NormNone, 0: engine.NormMax, 1: engine.NormL1, 2: engine.NormL2}[*n]
		if !ok {
			return badRequest("invalid_embd_normalize", "embd_normalize is %d: it must be -1, 0, 1 or 2", *n)
		}
		o.Norm = norm
	}
	e, err := s.embedder()
	if err != nil {
		return err
	}
	var vectors [][]float32
	if q.Input.tokens != nil {
		vectors, err = e.EmbedTokens(r.Context(), q.Input.tokens, o)
	} else {
		vectors, err = e.Embed(r.Context(), q.Input.texts, o)
	}
	if err != nil {
		return err
	}
	answer := embeddingsAnswer{Object: "list", Model: s.model.ID, Usage: inputUsage{usage.Prompt, usage.Prompt}}
	for i, v := range vectors {
		object := embeddingObject{Object: "embedding", Index: i, Embedding: v}
		if q.EncodingFormat == "base64" {
			var b bytes.Buffer
			_ = binary.Write(&b, binary.LittleEndian, v) // a buffer takes everything
			object.Embedding = base64.StdEncoding.EncodeToString(b.Bytes())
		}
		answer.Data = append(answer.Data, object)
	}
	return writeJSON(w, http.StatusOK, answer)
}
