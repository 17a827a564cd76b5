package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"sync"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// What a prompt has in common with those before it is not computed again.
func ExampleUsage() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	for _, city := range []string{"Rome", "Oslo"} {
		r := engine.Request{Prompt: "You know all countries of the world. Name the country of the city: " + city, MaxTokens: 1, Sampling: &llama.SamplerParams{}}
		for d, err := range e.Generate(ctx, r) {
			if err != nil {
				log.Fatal(err)
			}
			if d.Result != nil {
				u := d.Result.Usage
				fmt.Println(u.Prompt, "tokens:", u.Cached, "from the cache,", u.Computed, "computed")
			}
		}
	}
	// Output:
	// 16 tokens: 0 from the cache, 16 computed
	// 16 tokens: 15 from the cache, 1 computed
}

// A stream that waits 100 ms for a token while a long prompt is read beside it, where it would wait 800.
func ExampleRequest_pace() {
	ctx := context.Background()
	e := open(ctx)
	defer e.Close()

	requests := []engine.Request{
		{Prompt: "Once upon a time", MaxTokens: 64, IgnoreEOS: true, Pace: 100 * time.Millisecond},
		{Prompt: "A summary of the following. " + strings.Repeat("Nothing happened on that day. ", 100), MaxTokens: 1},
	}
	var wg sync.WaitGroup
	for _, r := range requests {
		wg.Go(func() {
			for _, err := range e.Generate(ctx, r) {
				if err != nil {
					log.Fatal(err)
				}
			}
		})
	}
	wg.Wait()
	fmt.Println(e.Stats().Running, "are left")
	// Output: 0 are left
}

// A request ends with its context, or where the loop is left; both free what it held before the loop is over.
func ExampleEngine_Generate_cancel() {
	e := open(context.Background())
	defer e.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := engine.Request{Prompt: "Once upon a time", IgnoreEOS: true}
	for d, err := range e.Generate(ctx, r) {
		if err != nil {
			fmt.Println(errors.Is(err, context.Canceled))
			fmt.Println(d.Result.FinishReason)
			break
		}
		cancel() // as soon as something has come
	}
	for range e.Generate(context.Background(), r) {
		break
	}
	fmt.Println(e.Stats().Running, "are left")
	// Output:
	// true
	// cancelled
	// 0 are left
}
