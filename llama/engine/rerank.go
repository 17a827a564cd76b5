package engine

import (
	"cmp"
	"context"
	"slices"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// RerankOptions say what Rerank gives. The zero value is sensible.
type RerankOptions struct {
	// TopN is the most scores that are given; 0 = all.
	TopN int
	// Usage, where set, gets the number of tokens.
	Usage *Usage
}

// Score is how well a document answers a query: more is better. The scale is the
// model's.
type Score struct {
	Index int // of the document
	Score float32
}

// Rerank orders documents by how well they answer a query, best first, equal
// ones by their index. It needs a reranker: a model whose file says pooling_type
// rank. Pairs are made as llama-server makes them.
//
// # Errors
//
// As [Engine.Embed]; [llama.ErrUnsupported] for a model that is no reranker.
//
// C: llama_get_embeddings_seq
func (e *Engine) Rerank(ctx context.Context, query string, documents []string, o RerankOptions) ([]Score, error) {
	if o.TopN < 0 {
		return nil, invalid("RerankOptions.TopN", "%d is negative", o.TopN)
	}
	out, usage, err := e.rank(ctx, query, documents)
	if err != nil {
		return nil, err
	}
	scores := make([]Score, len(out))
	for i, v := range out {
		scores[i] = Score{Index: i, Score: v[0]}
	}
	slices.SortStableFunc(scores, func(a, b Score) int { return cmp.Compare(b.Score, a.Score) })
	if o.TopN > 0 && o.TopN < len(scores) {
		scores = scores[:o.TopN]
	}
	if o.Usage != nil {
		*o.Usage = usage
	}
	return scores, nil
}

func (e *Engine) rank(ctx context.Context, query string, documents []string) ([][]float32, Usage, error) {
	if e.worker != nil {
		return isolatedEmbed(ctx, e.worker, embedCall{Rank: true, Query: query, Texts: documents})
	}
	return e.runEmbed(ctx, len(documents), llama.PoolingRank, func(i int) ([]llama.Token, error) {
		return e.model.RerankTokens(query, documents[i])
	})
}
