package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

func TestRepeated(t *testing.T) {
	for _, tt := range []struct {
		name    string
		tokens  []llama.Token
		n, most int
		want    []llama.Token
	}{
		{"nothing before", []llama.Token{1, 2, 3}, 3, 4, nil},
		{"never", []llama.Token{1, 2, 3, 4, 5, 6}, 2, 4, nil},
		{"once", []llama.Token{7, 1, 2, 3, 4, 1, 2}, 2, 4, []llama.Token{3, 4, 1, 2}},
		{"at most", []llama.Token{7, 1, 2, 3, 4, 1, 2}, 2, 1, []llama.Token{3}},
		{"the latest", []llama.Token{1, 2, 3, 1, 2, 4, 1, 2}, 2, 1, []llama.Token{4}},
		{"overlapping", []llama.Token{5, 1, 1, 1}, 2, 4, []llama.Token{1}},
	} {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, repeated(tt.tokens, tt.n, tt.most)) })
	}
}

// planned lets one sequence that repeats itself have guesses chosen.
func planned(g *guesser, s *sequence) feed {
	s.leaf = &node{cells: 1000}
	feeds := []feed{{seq: s, n: 1, sample: true}}
	g.plan(feeds)
	return feeds[0]
}

func repeating() *sequence {
	s := newTestSequence(nil, 1000)
	for range 20 {
		s.tokens = append(s.tokens, 1, 2, 3, 4)
	}
	return s
}

func TestGuesses(t *testing.T) {
	g := &guesser{ngram: 3, most: 8, batch: 64, cost: newGuessCost()}
	step := func(s *sequence, next ...llama.Token) feed {
		f := planned(g, s)
		f.tokens = next[:min(len(next), f.draft+1)]
		g.observe([]feed{f}, time.Duration(1+f.draft/10)*time.Millisecond)
		return f
	}
	s := repeating()
	require.Positive(t, planned(g, s).draft, "unknown odds are tried")
	for range 30 {
		step(s, 1, 2, 3, 4, 1, 2, 3, 4, 1)
	}
	// the last three tokens were there before, with four behind them, again and again
	require.Equal(t, []llama.Token{1, 2, 3, 4}, planned(g, s).guess[:4])
	require.Equal(t, 4, planned(g, s).draft, "right guesses that cost little")

	for range 60 {
		step(s, 9)
	}
	require.Zero(t, planned(g, s).draft, "wrong ones")
	for range 60 {
		step(s, 1)
	}
	require.Positive(t, planned(g, s).draft, "those that were not computed tell as well")
}

func TestGuessesEndWhereTheSequenceDoes(t *testing.T) {
	g := &guesser{ngram: 3, most: 8, batch: 64, cost: guessCost{known: true}}
	s := repeating()
	require.Equal(t, 4, planned(g, s).draft)
	s.limit = len(s.tokens) + 3
	require.Equal(t, 2, planned(g, s).draft, "with the token behind the guesses three are left")
	s.limit = len(s.tokens) + 1
	require.Zero(t, planned(g, s).draft)
	s.limit = 1000

	feeds := []feed{{seq: s, n: 1, sample: true}}
	s.leaf.cells = len(s.tokens) + 1
	g.plan(feeds)
	require.Equal(t, 1, feeds[0].draft, "cells")
	s.leaf.cells = 1000
	g.batch = 3
	require.Equal(t, 2, planned(g, s).draft, "the step")

	feeds = []feed{{seq: s, n: 1, sample: true}, {seq: repeating(), n: 5}}
	g.plan(feeds)
	require.Zero(t, feeds[0].draft, "a step with a prompt has none")
}

func TestGuessCost(t *testing.T) {
	c := newGuessCost()
	for range 100 {
		c.observe(0.010, 1, 0)
		c.observe(0.010+8*0.004, 1, 8)
	}
	require.InDelta(t, 0.4, c.few[1], 0.01)
	require.InDelta(t, 0.010, c.single, 0.0001)
	c.observe(10, 1, 0)
	require.Less(t, c.single, 0.013, "a step that something else made long")
	for range 2000 {
		c.observe(0.010, 4, 0)
	}
	require.Less(t, c.few[1], 0.4, "is tried again some time")
	before := c.model
	c.drafted(4*time.Millisecond, 4)
	require.NotEqual(t, before, c.model)
}

// TestGuessesFitTheStep: where the step is smaller than what generates, nothing is guessed.
func TestGuessesFitTheStep(t *testing.T) {
	g := &guesser{ngram: 3, most: 8, batch: 2, cost: guessCost{known: true}}
	var feeds []feed
	for range 4 {
		s := repeating()
		s.leaf = &node{cells: 1000}
		feeds = append(feeds, feed{seq: s, n: 1, sample: true})
	}
	g.plan(feeds)
	for _, f := range feeds {
		require.Zero(t, f.draft)
	}
}
