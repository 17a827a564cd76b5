package llama_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"regexp/syntax"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

// grammarMatcher says whether whole texts follow a grammar, as a sampler does while it generates.
type grammarMatcher struct {
	t       testing.TB
	m       *llama.Model
	c       *llama.Context
	sampler *llama.Sampler
}

// newGrammarMatcher leaves a context with logits: what they are does not matter.
func newGrammarMatcher(t testing.TB, m *llama.Model, grammar string) *grammarMatcher {
	c := newContext(t, m, llama.ContextParams{NCtx: 64})
	require.NoError(t, c.Decode(batchOf(t, []llama.Token{1}, 0, 0)))
	end := map[llama.Token]float32{}
	for id := range llama.Token(m.Vocab().NTokens()) {
		if m.Vocab().IsEOG(id) {
			end[id] = 1e6
		}
	}
	return &grammarMatcher{t: t, m: m, c: c, sampler: newSampler(t, m, llama.SamplerParams{Grammar: grammar, LogitBias: end})}
}

func (g *grammarMatcher) match(text string) bool {
	require.NoError(g.t, g.sampler.Reset())
	tokens, err := g.m.Vocab().Tokenize(text, false, false)
	require.NoError(g.t, err)
	for _, tok := range tokens {
		if err := g.sampler.Accept(tok); err != nil {
			require.ErrorIs(g.t, err, llama.ErrGrammarRejected)
			return false
		}
	}
	tok, err := g.sampler.Sample(g.c, 0)
	if err != nil {
		require.ErrorIs(g.t, err, llama.ErrGrammarRejected)
		return false
	}
	return g.m.Vocab().IsEOG(tok)
}

func TestRegexToGrammar(t *testing.T) {
	m := fixtureModel(t)
	for _, tt := range []struct {
		pattern string
		yes, no []string
	}{
		{`abc`, []string{"abc"}, []string{"", "ab", "abcd", "ABC"}},
		{`^abc$`, []string{"abc"}, []string{"ab", "^abc$"}},
		{`^a|b$`, []string{"a", "b"}, []string{"ab", "c"}},
		{``, []string{""}, []string{"a"}},
		{`(|a)b`, []string{"b", "ab"}, []string{"a"}},
		{`a|b|`, []string{"a", "b", ""}, []string{"ab"}},
		{`[a-c]{2,3}`, []string{"ab", "abc"}, []string{"a", "abca", "ad"}},
		{`(a?b?)*c`, []string{"c", "abbac"}, []string{"ab", "d"}},
		{`(a*)*`, []string{"", "aaa"}, []string{"b"}},
		{`((a|)+b*){2,3}`, []string{"", "ab", "abab", "bbb"}, []string{"c"}},
		{`(a{1,3})*`, []string{"", "aaaaa"}, []string{"b"}},
		{`(a{2}){2}`, []string{"aaaa"}, []string{"aaa", "aaaaa"}},
		{`x{0}y`, []string{"y"}, []string{"xy"}},
		{`\d{4}-\d\d`, []string{"2026-11"}, []string{"2026-1", "20261-1"}},
		{`[^\d]+`, []string{"ab\n"}, []string{"a1", ""}},
		{`[\w.-]+@[\w-]+`, []string{"a.b-c@d-e"}, []string{"a b@c"}},
		{`[\]\\^-]`, []string{"]", `\`, "^", "-"}, []string{"a", ""}},
		{`[+--]`, []string{"+", ",", "-"}, []string{"."}},
		{`.`, []string{"a", "é", "\r"}, []string{"\n", "ab"}},
		{`[à-ü]\u00e9\x41\u{1F600}`, []string{"éé" + "A😀"}, []string{"eéA😀"}},
		{`(?<year>\d+)(?P<m>x)(?:y)`, []string{"1xy"}, []string{"xy"}},
		{`"\/\{\}"`, []string{`"/{}"`}, []string{`"/"`}},
		{`a]b}`, []string{"a]b}"}, []string{"ab"}},
		{`a.*?b`, []string{"ab", "axxb"}, []string{"a"}},
		{`\s\S`, []string{" x", "\tx"}, []string{"  ", "x "}},
	} {
		t.Run(tt.pattern, func(t *testing.T) {
			grammar, err := llama.RegexToGrammar(tt.pattern)
			require.NoError(t, err)
			g := newGrammarMatcher(t, m, grammar)
			for _, s := range tt.yes {
				require.True(t, g.match(s), "%q\n%s", s, grammar)
			}
			for _, s := range tt.no {
				require.False(t, g.match(s), "%q\n%s", s, grammar)
			}
		})
	}
}

func TestRegexErrorsHaveTheOffset(t *testing.T) {
	for _, tt := range []struct{ pattern, place, text string }{
		{`ab(?=c)`, "2", "look-around"}, {`ab(?<!c)`, "2", "look-around"}, {`a\b`, "1", `\b`}, {`(a)\1`, "3", "back references"},
		{`\k<a>`, "0", "back references"}, {`ab)`, "2", "no group"}, {`a(b`, "1", "not closed"}, {`x[ab`, "1", "not closed"},
		{`[]a]`, "0", "empty"}, {`x[^\s\S]`, "1", "no character"}, {`*a`, "0", "nothing to repeat"}, {`a|+`, "2", "nothing to repeat"},
		{`a**`, "2", "put a group"}, {`a{2}{3}`, "4", "put a group"}, {`a{1001}`, "1", "at most 1000"}, {`a{3,2}`, "1", "3 is more than 2"},
		{`a{,3}`, "1", "{m}"}, {`a{`, "1", "{m}"}, {`a^b`, "1", "^ can only"}, {`a$b`, "1", "$ can only"}, {`(^a)`, "1", "^ can only"},
		{`[z-a]`, "1", "no range"}, {`[\d-z]`, "1", "no range"}, {`a(?i)b`, "1", "flags"}, {`\p{L}`, "0", `write the characters`},
		{`[[:alpha:]]`, "1", "named classes"}, {`a\`, "1", "nothing follows"}, {`é\q`, "2", "no meaning"}, {`\x4`, "0", "hexadecimal"},
		{`\u{110000}`, "0", "no character"}, {`\x00`, "0", "no character"}, {"a\x00", "1", "NUL"}, {"a\xff", "", "UTF-8"},
		{`((((a{1000}){1000}){1000}){1000})`, "", "elements"}, {strings.Repeat("(", 60) + strings.Repeat(")", 60), "50", "nested"},
		{strings.Repeat("a", 70_000), "", "bytes"},
	} {
		t.Run(tt.pattern[:min(20, len(tt.pattern))], func(t *testing.T) {
			_, err := llama.RegexToGrammar(tt.pattern)
			require.ErrorIs(t, err, llama.ErrInvalidRegex)
			var fault *llama.PlaceError
			require.ErrorAs(t, err, &fault)
			require.Contains(t, fault.Text, tt.text)
			if tt.text != "elements" {
				require.Equal(t, tt.place, fault.Place)
			}
		})
	}
}

// randomRegex writes a pattern of the subset.
func randomRegex(r *rand.Rand, depth int) string {
	atoms := []string{"a", "b", "c", "[ab]", "[^a]", "[b-d]", ".", `\d`, `\w`, "é", `\.`, "[a-c0-3]"}
	one := func() string {
		if depth > 0 && r.IntN(3) == 0 {
			return "(" + randomRegex(r, depth-1) + ")"
		}
		return atoms[r.IntN(len(atoms))]
	}
	var b strings.Builder
	for i := range 1 + r.IntN(2) {
		if i > 0 {
			b.WriteByte('|')
		}
		for range r.IntN(4) {
			b.WriteString(one() + []string{"", "", "", "*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?"}[r.IntN(11)])
		}
	}
	return b.String()
}

// randomMatch writes a text that matches.
func randomMatch(r *rand.Rand, re *syntax.Regexp) string {
	var b strings.Builder
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		i := 2 * r.IntN(len(re.Rune)/2)
		b.WriteRune(re.Rune[i] + rune(r.IntN(min(20, int(re.Rune[i+1]-re.Rune[i])+1))))
	case syntax.OpAnyCharNotNL, syntax.OpAnyChar:
		b.WriteRune('x')
	case syntax.OpConcat:
		for _, s := range re.Sub {
			b.WriteString(randomMatch(r, s))
		}
	case syntax.OpAlternate:
		return randomMatch(r, re.Sub[r.IntN(len(re.Sub))])
	case syntax.OpCapture:
		return randomMatch(r, re.Sub[0])
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		lo, hi := re.Min, re.Max
		switch re.Op {
		case syntax.OpStar:
			lo, hi = 0, 3
		case syntax.OpPlus:
			lo, hi = 1, 3
		case syntax.OpQuest:
			lo, hi = 0, 1
		}
		if hi < 0 {
			hi = lo + 2
		}
		for range lo + r.IntN(hi-lo+1) {
			b.WriteString(randomMatch(r, re.Sub[0]))
		}
	}
	return b.String()
}

// TestRegexMatchesAsGo: for random patterns, the grammar takes what Go's regexp takes and nothing else, and what is generated
// under it matches.
func TestRegexMatchesAsGo(t *testing.T) {
	m := fixtureModel(t)
	r := rand.New(rand.NewPCG(1, 2))
	tried, ended := 0, 0
	for range 120 {
		pattern := randomRegex(r, 2)
		grammar, err := llama.RegexToGrammar(pattern)
		if err != nil { // too ambiguous
			require.ErrorIs(t, err, llama.ErrInvalidRegex)
			require.Contains(t, err.Error(), "ambiguous")
			continue
		}
		tried++
		re := regexp.MustCompile("^(?:" + pattern + ")$")
		tree, err := syntax.Parse(pattern, syntax.Perl)
		require.NoError(t, err)
		g := newGrammarMatcher(t, m, grammar)
		for range 6 {
			text := randomMatch(r, tree)
			if !re.MatchString(text) || strings.ContainsRune(text, 0) {
				continue // a line feed or NUL of a large class
			}
			require.True(t, g.match(text), "%q of %s\n%s", text, pattern, grammar)
			other := []byte(text)
			for range 1 + r.IntN(2) {
				at := r.IntN(len(other) + 1)
				other = append(other[:at:at], append([]byte{"abcdx1."[r.IntN(7)]}, other[min(len(other), at+r.IntN(2)):]...)...)
			}
			if s := string(other); strings.ToValidUTF8(s, "") == s {
				require.Equal(t, re.MatchString(s), g.match(s), "%q of %s\n%s", s, pattern, grammar)
			}
		}
		require.NoError(t, g.c.Memory().Clear())
		hot := newSampler(t, m, llama.SamplerParams{Grammar: grammar, Temperature: 2, Seed: uint32(tried)})
		tokens := generate(t, g.c, hot, []llama.Token{1}, 40)
		if m.Vocab().IsEOG(tokens[len(tokens)-1]) {
			text, err := m.Vocab().Detokenize(tokens[:len(tokens)-1], false, false)
			require.NoError(t, err)
			// of tokens that are single bytes llama.cpp also takes characters that are written too long
			if utf8.ValidString(text) {
				ended++
				require.True(t, re.MatchString(text), "%q of %s\n%s", text, pattern, grammar)
			}
		}
		require.NoError(t, g.c.Close())
		require.NoError(t, g.sampler.Close())
		require.NoError(t, hot.Close())
	}
	require.Greater(t, tried, 80)
	require.Greater(t, ended, 30)
}

func FuzzRegexToGrammar(f *testing.F) {
	for _, s := range []string{`a|b*`, `(a?b?){2,3}`, `[^\d\-z]`, `(?<x>y)`, `\u{1F600}`, `((((`, `a{1000}{2}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, pattern string) {
		if grammar, err := llama.RegexToGrammar(pattern); err == nil {
			_, err := regexp.Compile("^(?:" + regexpOfGo(pattern) + ")$")
			require.NoError(t, err, "%q\n%s", pattern, grammar)
		}
	})
}

// regexpOfGo writes \uHHHH, which Go does not know, in its way.
func regexpOfGo(pattern string) string {
	return regexp.MustCompile(`\\u(?:\{([0-9a-fA-F]+)\}|([0-9a-fA-F]{4}))`).ReplaceAllString(pattern, `\x{$1$2}`)
}

func TestChoicesToGrammar(t *testing.T) {
	m := fixtureModel(t)
	grammar, err := llama.ChoicesToGrammar([]string{"yes", "no", `"q\uote"`, "é\n"})
	require.NoError(t, err)
	g := newGrammarMatcher(t, m, grammar)
	for text, want := range map[string]bool{"yes": true, "no": true, `"q\uote"`: true, "é\n": true, "y": false, "yesno": false, "": false} {
		require.Equal(t, want, g.match(text), text)
	}
	for _, bad := range [][]string{nil, {""}, {"a", "\xff"}, {"a\x00"}, make([]string, 10_001)} {
		_, err := llama.ChoicesToGrammar(bad)
		require.ErrorIs(t, err, llama.ErrInvalidGrammar)
	}
	many := make([]string, 2000)
	for i := range many {
		many[i] = fmt.Sprint("choice ", i)
	}
	_, err = llama.ChoicesToGrammar(many)
	require.NoError(t, err)
}
