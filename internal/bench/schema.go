package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// schemaFormat asks for a list of people, which takes the default model some 200 tokens.
var schemaFormat = json.RawMessage(`{"type":"json_schema","json_schema":{"name":"people","strict":true,"schema":{
	"type":"object","required":["people"],"additionalProperties":false,"properties":{"people":{"type":"array","minItems":10,"maxItems":10,"items":{
		"type":"object","required":["name","age","city"],"additionalProperties":false,"properties":{
			"name":{"type":"string","minLength":3,"maxLength":12},
			"age":{"type":"integer","minimum":18,"maximum":99},
			"city":{"enum":["Paris","Rome","Berlin","Madrid"]}}}}}}}}`)

// schema is output that follows a JSON schema: one stream, and four at once.
func (b *bench) schema(ctx context.Context, row string) error {
	settings := []setting{ours(oursName), b.llamaServer("-np 1 -c 8192"), b.llamaServer("-c 8192")}
	var sides []side
	var err error
	for _, s := range settings {
		var v *server
		if v, err = startServer(ctx, s); err != nil {
			break
		}
		defer func() { err = errors.Join(err, v.stop()) }()
		sides = append(sides, side{s.name, s.argv, func(ctx context.Context) (metrics, error) { return schemaRound(ctx, v.url) }})
	}
	if err != nil {
		return err
	}
	return b.compare(ctx, row, sides[0], sides[1:]...)
}

func schemaRound(ctx context.Context, url string) (metrics, error) {
	m := metrics{}
	for _, n := range []int{1, 4} {
		chats := make([]chat, n)
		for i := range chats {
			chats[i] = newChat(1000, message{Role: "user", Content: fmt.Sprintf("List ten people, group %d.", i)})
			// llama-server fails where a grammar is complete and the end is forbidden.
			chats[i].ResponseFormat, chats[i].IgnoreEOS = schemaFormat, false
		}
		answers, err := client{url: url, keep: true}.askAll(ctx, chats)
		if err != nil {
			return nil, err
		}
		first, last, tokens := answers[0].deltas[0], answers[0].end, 0
		for _, a := range answers {
			said, err := a.text()
			if err != nil {
				return nil, err
			}
			if !json.Valid([]byte(said)) {
				return nil, fmt.Errorf("the answer is not JSON: %s", said)
			}
			tokens += a.timings.PredictedN - 1
			first, last = earlier(first, a.deltas[0]), later(last, a.end)
		}
		m[fmt.Sprintf("%d at once", n)] = float64(tokens) / last.Sub(first).Seconds()
	}
	return m, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
