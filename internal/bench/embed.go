package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	embedTexts   = 100 // a round
	embedTokens  = 100
	embedRequest = 50 // texts in one request
)

// embeddings are texts through /v1/embeddings, several requests at once.
func (b *bench) embeddings(ctx context.Context, row string) (err error) {
	settings := []setting{
		ours(oursName),
		b.llamaServer("--embedding --pooling mean -np 1 -c 8192"),
		b.llamaServer("--embedding --pooling mean -c 8192"),
		b.llamaServer("--embedding --pooling mean -np 16 -c 8192 -b 2048 -ub 2048"),
	}
	var sides []side
	round := 0 // texts that nobody has seen before, in case that somebody remembers
	for _, s := range settings {
		v, startErr := startServer(ctx, s)
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, v.stop()) }()
		sides = append(sides, side{s.name, s.argv, func(ctx context.Context) (metrics, error) {
			round++
			return embedRound(ctx, v.url, round)
		}})
	}
	return b.compare(ctx, row, sides[0], sides[1:]...)
}

func embedRound(ctx context.Context, url string, round int) (metrics, error) {
	start := time.Now()
	for i := 0; i < embedTexts; i += embedRequest {
		texts := make([]string, embedRequest)
		for j := range texts {
			texts[j] = text(uint64(round*embedTexts+i+j), embedTokens)
		}
		if err := embed(ctx, url, texts); err != nil {
			return nil, err
		}
	}
	return metrics{"texts/s": embedTexts / time.Since(start).Seconds()}, nil
}

func embed(ctx context.Context, url string, texts []string) error {
	body, err := json.Marshal(map[string]any{"input": texts, "model": "default"})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/embeddings", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if n := bytes.Count(content, []byte(`"embedding":[`)); answer.StatusCode != http.StatusOK || n != len(texts) {
		return fmt.Errorf("%s, %d embeddings of %d texts: %.200s", answer.Status, n, len(texts), content)
	}
	return nil
}
