package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

const (
	speculativeTokens = 160
	repetitive        = "an inventory repeated"
	prose             = "prose"
)

// inventory is the repetitive task: a list is to be said again.
func inventory() string {
	var b strings.Builder
	for i, name := range []string{"hammer", "screwdriver", "wrench", "drill", "saw", "pliers", "chisel", "level"} {
		fmt.Fprintf(&b, `{"id": %d, "name": "%s", "price": %d.50, "stock": %d}`+"\n", 101+i, name, 12+3*i, 40-2*i)
	}
	return "Inventory:\n" + b.String() + "\nThe same inventory, repeated without changes:\n" + strings.SplitAfter(b.String(), "\n")[0]
}

const novel = "The old lighthouse keeper had not spoken to anyone for three weeks when the boat came. He put down his book,"

// speculative compares an engine that guesses by n-grams with one that does not: tokens/s of an answer behind its prompt,
// the share of answers that differ, and how many tokens were guessed and how many of them were right.
func (b *bench) speculative(ctx context.Context, row string) (err error) {
	plain, err := b.open(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	guessing, err := engine.New(plain.Model(), engine.Params{MaxSequences: 1, Speculative: engine.Speculative{NGram: 3}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, guessing.Close()) }()
	for _, task := range []string{repetitive, prose} {
		c := b.begin(row, task, nil)
		err := b.fill(ctx, c, b.pairs, func(ctx context.Context) (metrics, error) {
			n := len(c.Rounds)
			prompt := inventory()
			if task == prose {
				prompt = novel + strings.Repeat(" again", n%5) // other texts
			}
			engines := []*engine.Engine{guessing, plain}
			answers := make([]completion, len(engines))
			for i := range engines {
				i = (i + n) % len(engines)
				rest()
				if answers[i], err = complete(ctx, engines[i], prompt); err != nil {
					return nil, err
				}
			}
			ours, theirs := answers[0].speed(), answers[1].speed()
			u := answers[0].result.Usage
			m := metrics{"ratio": ours / theirs, "ours": ours, "theirs": theirs, "drafted": float64(u.Drafted) / speculativeTokens, "differ": 0}
			if u.Drafted > 0 {
				m["accepted"] = float64(u.Accepted) / float64(u.Drafted)
			}
			if !slices.Equal(answers[0].tokens, answers[1].tokens) {
				m["differ"] = 1
			}
			return m, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type completion struct {
	tokens []llama.Token
	result *engine.Result
}

// speed is tokens/s behind the prompt.
func (a completion) speed() float64 {
	return float64(len(a.tokens)) / a.result.Timings.Decode.Seconds()
}

func complete(ctx context.Context, e *engine.Engine, prompt string) (a completion, err error) {
	r := engine.Request{Prompt: prompt, MaxTokens: speculativeTokens, IgnoreEOS: true, Sampling: &llama.SamplerParams{}}
	for d, err := range e.Generate(ctx, r) {
		if err != nil {
			return a, err
		}
		a.tokens, a.result = append(a.tokens, d.Tokens...), d.Result
	}
	return a, nil
}
