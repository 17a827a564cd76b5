package engine_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// outputs collects the outputs of a request with N.
func outputs(t testing.TB, e *engine.Engine, r engine.Request) []answer {
	t.Helper()
	all := make([]answer, max(r.N, 1))
	for d, err := range e.Generate(t.Context(), r) {
		require.NoError(t, err)
		a := &all[d.Index]
		require.Nil(t, a.result, "a delta after the last one of output %d", d.Index)
		a.text += d.Text
		a.tokens = append(a.tokens, d.Tokens...)
		a.result = d.Result
	}
	for i, a := range all {
		require.NotNil(t, a.result, "output %d", i)
		require.Len(t, a.tokens, a.result.Usage.Output)
	}
	return all
}

func TestSeveralOutputs(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 4})
	hot := llama.SamplerParams{Temperature: 1.5, Seed: 7}
	r := engine.Request{Prompt: strings.Repeat("Once upon a time ", 10), MaxTokens: 8, Sampling: &hot, N: 4, IgnoreEOS: true}
	all := outputs(t, e, r)
	computed, prompt := 0, all[0].result.Usage.Prompt
	for i, a := range all {
		require.EqualValues(t, 7+i, a.result.Seed)
		u := a.result.Usage
		require.Equal(t, prompt, u.Cached+u.Computed)
		computed += u.Computed
		for _, b := range all[:i] {
			require.NotEqual(t, a.text, b.text)
		}
	}
	require.LessOrEqual(t, computed, prompt+3, "the prompt is computed once, and its last token for each output")
	requireIdle(t, e)

	t.Run("each is what it is alone", func(t *testing.T) {
		// as far as the logits are the same: greedy, with room between the best two
		r := engine.Request{Prompt: france, MaxTokens: 3, Sampling: greedy(), N: 3}
		alone := generate(t, e, engine.Request{Prompt: france, MaxTokens: 3, Sampling: greedy()})
		for _, a := range outputs(t, e, r) {
			require.Equal(t, alone.tokens, a.tokens)
		}
	})
	t.Run("more than run at once", func(t *testing.T) {
		r := r
		r.N, r.MaxTokens = 9, 2
		require.Len(t, outputs(t, e, r), 9)
	})
	t.Run("a random seed", func(t *testing.T) {
		r := r
		r.Sampling, r.MaxTokens = nil, 1
		all := outputs(t, e, r)
		for i, a := range all {
			require.Equal(t, uint32((uint64(all[0].result.Seed)+uint64(i))%uint64(llama.RandomSeed)), a.result.Seed)
		}
	})
	t.Run("left early", func(t *testing.T) {
		for range e.Generate(t.Context(), r) {
			break
		}
		requireIdle(t, e)
	})
	t.Run("one fails", func(t *testing.T) {
		r := r
		calls := 0
		r.Processor = func([]llama.Token, []float32) error {
			if calls++; calls > 6 {
				return errors.New("enough")
			}
			return nil
		}
		var last error
		for _, err := range e.Generate(t.Context(), r) {
			require.NoError(t, last, "an error is the last")
			last = err
		}
		require.ErrorContains(t, last, "enough")
		requireIdle(t, e)
	})
	t.Run("in a chat", func(t *testing.T) {
		texts := make([]string, 2)
		for d, err := range e.Chat(t.Context(), engine.ChatRequest{Messages: user("Hi"), N: 2, MaxTokens: 5, Sampling: &hot}) {
			require.NoError(t, err)
			texts[d.Index] += d.Content
		}
		require.NotEqual(t, texts[0], texts[1])
	})
	for _, n := range []int{-1, 129} {
		_, err := collect(t, t.Context(), e, engine.Request{Prompt: "x", N: n})
		var invalid *engine.ErrInvalid
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, "Request.N", invalid.Field)
	}
	small := newEngine(t, engine.Params{MaxSequences: 2, MaxQueue: 1})
	_, err := collect(t, t.Context(), small, engine.Request{Prompt: "x", N: 4})
	require.ErrorAs(t, err, new(*engine.ErrInvalid), "it never has places for all")
	require.Len(t, outputs(t, small, engine.Request{Prompt: "x", N: 3, MaxTokens: 1}), 3)
	requireIdle(t, small)
}

// logprobsOf is the reference: the softmax of the logits.
func logprobsOf(logits []float32) []float64 {
	most, sum := math.Inf(-1), 0.0
	for _, l := range logits {
		most = max(most, float64(l))
	}
	for _, l := range logits {
		sum += math.Exp(float64(l) - most)
	}
	out := make([]float64, len(logits))
	for i, l := range logits {
		out[i] = float64(l) - most - math.Log(sum)
	}
	return out
}

func TestLogprobs(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 2})
	const n = 5
	var want [][]float64
	see := func(_ []llama.Token, logits []float32) error {
		want = append(want, logprobsOf(logits))
		return nil
	}
	hot := &llama.SamplerParams{Temperature: 1.2, Seed: 3, TopK: 20}
	r := engine.Request{Prompt: france, MaxTokens: 12, Sampling: hot, Logprobs: n, IgnoreEOS: true, Processor: see}
	gather := func(r engine.Request) (all []engine.TokenLogprobs) {
		for d, err := range e.Generate(t.Context(), r) {
			require.NoError(t, err)
			require.Len(t, d.Logprobs, len(d.Tokens))
			for i, p := range d.Logprobs {
				require.Equal(t, d.Tokens[i], p.Token)
			}
			all = append(all, d.Logprobs...)
		}
		return all
	}
	got := gather(r)
	require.Len(t, got, 12)
	for i, p := range got {
		require.InDelta(t, want[i][p.Token], p.Logprob, 1e-4)
		require.Len(t, p.Top, n-1)
		ids := make([]llama.Token, len(want[i]))
		for j := range ids {
			ids[j] = llama.Token(j)
		}
		slices.SortStableFunc(ids, func(a, b llama.Token) int {
			switch x, y := want[i][a], want[i][b]; {
			case x > y:
				return -1
			case x < y:
				return 1
			}
			return 0
		})
		for j, top := range p.Top {
			require.Equal(t, ids[j], top.Token)
			require.InDelta(t, want[i][ids[j]], top.Logprob, 1e-4)
		}
	}
	r.Processor = nil // several steps in one call
	require.Equal(t, got, gather(r))
	r.Logprobs = 1
	for i, p := range gather(r) {
		require.Equal(t, got[i].TokenLogprob, p.TokenLogprob)
		require.Empty(t, p.Top)
	}
	t.Run("in a chat", func(t *testing.T) {
		tokens := 0
		for d, err := range e.Chat(t.Context(), engine.ChatRequest{Messages: user("Hi"), MaxTokens: 6, Sampling: greedy(), Logprobs: 2}) {
			require.NoError(t, err)
			for _, p := range d.Logprobs {
				require.Equal(t, p.TokenLogprob, p.Top[0], "greedy takes the likeliest")
				tokens++
			}
			if d.Result != nil {
				require.Equal(t, d.Result.Usage.Output, tokens)
			}
		}
	})
	for _, bad := range []int{-1, 101} {
		_, err := collect(t, t.Context(), e, engine.Request{Prompt: "x", Logprobs: bad})
		require.ErrorContains(t, err, "Request.Logprobs")
	}
	requireIdle(t, e)
}

func TestProcessor(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 3})
	paris := generate(t, e, engine.Request{Prompt: france, MaxTokens: 4, Sampling: greedy()})
	prompt, err := e.Model().Vocab().Tokenize(france, true, false)
	require.NoError(t, err)
	ban := func(tokens []llama.Token, logits []float32) error {
		require.Equal(t, prompt, tokens[:len(prompt)])
		require.Len(t, logits, e.Model().Vocab().NTokens())
		logits[paris.tokens[0]] = float32(math.Inf(-1))
		return nil
	}
	r := engine.Request{Prompt: france, MaxTokens: 4, Sampling: greedy(), Processor: ban}
	a := generate(t, e, r)
	require.NotContains(t, a.tokens, paris.tokens[0])

	t.Run("chooses", func(t *testing.T) {
		r := r
		r.Processor = func(tokens []llama.Token, logits []float32) error {
			want := paris.tokens[len(tokens)-len(prompt)]
			for i := range logits {
				if llama.Token(i) != want {
					logits[i] = float32(math.Inf(-1))
				}
			}
			return nil
		}
		r.Sampling = &llama.SamplerParams{Temperature: 2}
		require.Equal(t, paris.tokens, generate(t, e, r).tokens)
	})
	t.Run("with a grammar", func(t *testing.T) {
		r := r
		const paris = "Paris"
		r.Choices = []string{paris, "London"}
		r.Processor = func(_ []llama.Token, logits []float32) error {
			for i := range logits {
				if piece, _ := e.Model().Vocab().AppendPiece(nil, llama.Token(i), false); len(piece) > 0 && strings.Index(paris, string(piece)) == 0 {
					logits[i] = float32(math.Inf(-1))
				}
			}
			return nil
		}
		r.MaxTokens = 20
		require.Equal(t, "London", generate(t, e, r).text)
	})
	t.Run("beside others", func(t *testing.T) {
		done := make(chan answer, 1)
		go func() {
			done <- generate(t, e, engine.Request{Prompt: france, MaxTokens: 4, Sampling: greedy()})
		}()
		require.Equal(t, a.tokens, generate(t, e, r).tokens)
		require.Equal(t, paris.tokens, (<-done).tokens)
	})
	cause := errors.New("no")
	for name, tt := range map[string]struct {
		f     engine.LogitsProcessor
		is    error
		text  string
		stack bool
	}{
		"error":       {func([]llama.Token, []float32) error { return cause }, cause, "no", false},
		"panic":       {func([]llama.Token, []float32) error { panic("oh") }, nil, "panic: oh", true},
		"real panic":  {func(_ []llama.Token, l []float32) error { l[len(l)+len(prompt)] = 1; return nil }, nil, "index out of range", true},
		"error panic": {func([]llama.Token, []float32) error { panic(cause) }, cause, "panic: no", true},
		"NaN":         {func(_ []llama.Token, l []float32) error { l[3] = float32(math.NaN()); return nil }, llama.ErrInvalidParam, "token 3 is NaN", false},
		"infinite":    {func(_ []llama.Token, l []float32) error { l[4] = float32(math.Inf(1)); return nil }, llama.ErrInvalidParam, "token 4 is +Inf", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := r
			r.Processor = tt.f
			_, err := collect(t, t.Context(), e, r)
			var failed *engine.ErrProcessor
			require.ErrorAs(t, err, &failed)
			require.ErrorContains(t, err, tt.text)
			require.Equal(t, tt.stack, len(failed.Stack) > 0)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
			requireIdle(t, e)
		})
	}
	t.Run("nothing left", func(t *testing.T) {
		r := r
		r.Processor = func(_ []llama.Token, l []float32) error {
			for i := range l {
				l[i] = float32(math.Inf(-1))
			}
			return nil
		}
		_, err := collect(t, t.Context(), e, r)
		require.ErrorIs(t, err, llama.ErrGrammarRejected)
	})
	require.Equal(t, paris.tokens, generate(t, e, engine.Request{Prompt: france, MaxTokens: 4, Sampling: greedy()}).tokens, "the engine goes on")
}

func TestRegexAndChoices(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 2})
	a := generate(t, e, engine.Request{Prompt: "The year is ", Regex: `(19|20)\d\d`, Sampling: greedy(), MaxTokens: 20})
	require.Regexp(t, `^(19|20)\d\d$`, a.text)
	require.Equal(t, engine.FinishStop, a.result.FinishReason)
	choices := []string{"positive", "negative"}
	require.Contains(t, choices, generate(t, e, engine.Request{Prompt: "I love it. That is", Choices: choices, Sampling: greedy(), MaxTokens: 20}).text)
	c := chat(t, e, engine.ChatRequest{Messages: user("Is it warm? Yes or no."), Choices: []string{"yes", "no"}, Sampling: greedy(), MaxTokens: 20})
	require.Contains(t, []string{"yes", "no"}, c.content)
	c = chat(t, e, engine.ChatRequest{Messages: user("A number."), Regex: `[1-9]\d{2}`, Sampling: greedy(), MaxTokens: 20})
	require.Regexp(t, `^[1-9]\d{2}$`, c.content)

	_, err := collect(t, t.Context(), e, engine.Request{Prompt: "x", Regex: `ab(?=c)`})
	var fault *llama.PlaceError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, "2", fault.Place)
	for i, r := range []engine.ChatRequest{
		{Regex: "a", Choices: []string{"a"}}, {Regex: "a", Grammar: `root ::= "a"`}, {Choices: []string{"a"}, Schema: []byte(`{}`)},
		{Regex: "a", Tools: []llama.Tool{{Name: "f", Parameters: []byte(`{"type":"object"}`)}}},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r.Messages = user("x")
			_, err := collectChat(t, e, r)
			var invalid *engine.ErrInvalid
			require.ErrorAs(t, err, &invalid)
		})
	}
	requireIdle(t, e)
}

// thinking is a chat template whose answer begins with reasoning.
const thinking = `{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == "assistant" %}{% if '</think>' in m.content %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}{% else %}{{ m.content }}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
<think>{% endif %}`

func TestReasoningBudget(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 2, ChatTemplate: thinking})
	run := func(budget *int) reply {
		return chat(t, e, engine.ChatRequest{Messages: user("Why?"), Sampling: greedy(), MaxTokens: 60, IgnoreEOS: true, ReasoningBudget: budget})
	}
	free := run(nil)
	require.Greater(t, len(free.reasoning), 60, "this model never ends its reasoning by itself: %q %q", free.reasoning, free.content)
	require.Empty(t, free.content)
	for _, n := range []int{0, 1, 10} {
		a := run(&n)
		require.NotEmpty(t, a.content, n)
		require.True(t, strings.HasPrefix(free.reasoning, a.reasoning), "%q", a.reasoning)
		tokens, err := e.Model().Vocab().Tokenize(a.reasoning, false, false)
		require.NoError(t, err)
		require.InDelta(t, n, len(tokens), 1)
	}
	t.Run("in plain text, with a message", func(t *testing.T) {
		p := llama.SamplerParams{Reasoning: &llama.Reasoning{Budget: 5, Start: "<issue_start>", Ends: []string{"<issue_closed>"}, Message: " Enough."}}
		grammar := `root ::= <issue_start> [a-zA-Z .]* <issue_closed> [a-z]+`
		a := generate(t, e, engine.Request{Prompt: "x", Sampling: &p, MaxTokens: 20, Grammar: grammar, IgnoreEOS: true})
		closed, err := e.Model().Vocab().Tokenize("<issue_closed>", false, true)
		require.NoError(t, err)
		require.Contains(t, a.text, " Enough.")
		require.Equal(t, 8, slices.Index(a.tokens, closed[0]), "%v", a.tokens)
	})
	for _, bad := range []llama.Reasoning{{Budget: -1}, {Start: "a"}, {Ends: []string{"b"}}, {Start: "a", Ends: []string{""}}, {Start: "a", Ends: []string{"b"}, Message: "\x00"}} {
		_, err := collect(t, t.Context(), e, engine.Request{Prompt: "x", Sampling: &llama.SamplerParams{Reasoning: &bad}})
		require.ErrorIs(t, err, llama.ErrInvalidParam)
	}
	n := -1
	_, err := collectChat(t, e, engine.ChatRequest{Messages: user("x"), ReasoningBudget: &n})
	require.ErrorContains(t, err, "ReasoningBudget")
	requireIdle(t, e)
}
