package engine_test

import (
	"context"
	"fmt"
	"log"
	"slices"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

func ExampleEngine_Embed() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	texts := []string{"The cat sleeps on the sofa.", "A kitten naps on the couch.", "SELECT id FROM users WHERE age > 30;"}
	vectors, err := e.Embed(ctx, texts, engine.EmbedOptions{Pooling: llama.PoolingMean})
	if err != nil {
		log.Fatal(err)
	}
	// the vectors have length 1: the dot product is the cosine
	dot := func(a, b []float32) (sum float32) {
		for i := range a {
			sum += a[i] * b[i]
		}
		return sum
	}
	fmt.Println(len(vectors), "vectors of", len(vectors[0]), "values")
	fmt.Println("the cats are nearer:", dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2]))
	// Output:
	// 3 vectors of 576 values
	// the cats are nearer: true
}

func ExampleEngine_Rerank() {
	ctx := context.Background()
	e := openReranker(ctx)
	defer e.Close()

	documents := []string{"The sky is blue.", "A cow is brown.", "Water is wet."}
	scores, err := e.Rerank(ctx, "Which animal is brown?", documents, engine.RerankOptions{TopN: 2})
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range scores {
		_ = documents[s.Index] // s.Score says how well it answers
	}
	fmt.Println(len(scores), "of", len(documents), "documents, best first:", scores[0].Score >= scores[1].Score)
	// Output: 2 of 3 documents, best first: true
}

// openReranker makes an engine of a reranker: here of random weights.
func openReranker(ctx context.Context) *engine.Engine {
	path, remove := fixtureFile(fixture.Reranker())
	defer remove()
	e, err := engine.Open(ctx, path, engine.Params{NThreads: 1})
	if err != nil {
		log.Fatal(err)
	}
	return e
}

// Texts that are tokens already: parts of a document that is longer than the model takes.
func ExampleEngine_EmbedTokens() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	tokens, err := e.Model().Vocab().Tokenize(strings.Repeat("The quick brown fox jumps over the lazy dog. ", 30), true, false)
	if err != nil {
		log.Fatal(err)
	}
	parts := slices.Collect(slices.Chunk(tokens, 100))
	vectors, err := e.EmbedTokens(ctx, parts, engine.EmbedOptions{Pooling: llama.PoolingMean})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(tokens), "tokens,", len(vectors), "vectors")
	// Output: 301 tokens, 4 vectors
}
