package server

import (
	"encoding/json"
	"net/http"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

type rerankRequest struct {
	Query           *string      `json:"query"`
	Documents       []document   `json:"documents"`
	TopN            *wholeNumber `json:"top_n"`
	ReturnDocuments bool         `json:"return_documents"`
}

// document is a text, or an object with one.
type document struct {
	Text string `json:"text"`
}

// UnmarshalJSON implements [json.Unmarshaler].
func (d *document) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &d.Text) == nil && !isNull(data) {
		return nil
	}
	if members, ok := object(data); !ok || json.Unmarshal(members["text"], &d.Text) != nil {
		return badRequest("invalid_type", "each of \"documents\" must be a text or {\"text\":...}")
	}
	return nil
}

type rerankAnswer struct {
	Object  string         `json:"object"`
	Model   string         `json:"model"`
	Usage   inputUsage     `json:"usage"`
	Results []rerankResult `json:"results"`
}

type rerankResult struct {
	Index          int       `json:"index"`
	RelevanceScore float32   `json:"relevance_score"`
	Document       *document `json:"document,omitempty"`
}

// rerank answers POST /v1/rerank in the format of Jina, Cohere and llama-server.
func (s *Server) rerank(w http.ResponseWriter, r *http.Request) error {
	var q rerankRequest
	if err := s.readJSON(w, r, &q); err != nil {
		return err
	}
	switch {
	case q.Query == nil:
		return badRequest("missing_query", "field \"query\" is missing")
	case len(q.Documents) == 0:
		return badRequest("missing_documents", "field \"documents\" is missing or empty")
	case len(q.Documents) > mostTexts:
		return badRequest("too_many_documents", "field \"documents\" has %d texts: at most %d", len(q.Documents), mostTexts)
	case q.TopN != nil && *q.TopN < 1:
		return badRequest("invalid_top_n", "top_n is %d: it must be at least 1", *q.TopN)
	}
	var usage engine.Usage
	o := engine.RerankOptions{Usage: &usage}
	if q.TopN != nil {
		o.TopN = int(min(*q.TopN, wholeNumber(len(q.Documents))))
	}
	texts := make([]string, len(q.Documents))
	for i, d := range q.Documents {
		texts[i] = d.Text
	}
	e, err := s.embedder()
	if err != nil {
		return err
	}
	scores, err := e.Rerank(r.Context(), *q.Query, texts, o)
	if err != nil {
		return err
	}
	answer := rerankAnswer{Object: "list", Model: s.model.ID, Usage: inputUsage{usage.Prompt, usage.Prompt}}
	for _, score := range scores {
		result := rerankResult{Index: score.Index, RelevanceScore: score.Score}
		if q.ReturnDocuments {
			result.Document = &q.Documents[score.Index]
		}
		answer.Results = append(answer.Results, result)
	}
	return writeJSON(w, http.StatusOK, answer)
}
