package llama_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

func TestCheckGrammar(t *testing.T) {
	m := fixtureModel(t)
	for _, tt := range []struct{ name, gbnf string }{
		{"literal", `root ::= "yes" | "no"`},
		{"comments and lines", "# a comment\nroot ::= (\n  \"a\" # one\n  | b+\n)\nb ::= [^\\x00-\\x1F\"\\\\] \"\\u00e9\" \"\\U0001F600\"\n"},
		{"repetition", `root ::= "a"{3} "b"{2,} "c"{0,5} [a-z-]* "d"? .`},
		{"token", `root ::= <|im_end|> | !<[3]>`},
		{"recursion", `root ::= "(" root ")" | "x"`},
		{"empty", `root ::= `},
		{"carriage returns", "root ::= a\r\na ::= \"x\"\r\n"},
		{"unicode", `root ::= [а-яёЁ]+ "日本"`},
		{"star of what may be empty", "root ::= (ws)* \"x\"\nws ::= [ \\t]*"},
		{"hundred brackets", "root ::= " + strings.Repeat("(", 100) + `"a"` + strings.Repeat(")", 100)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.NoError(t, llama.CheckGrammar(m, tt.gbnf))
			s, err := llama.NewSampler(m, llama.SamplerParams{Grammar: tt.gbnf})
			require.NoError(t, err)
			require.NoError(t, s.Close())
		})
	}
}

// hostileGrammars must be refused before llama.cpp sees them: unrefused, each would end or block the process, or write to stderr.
func hostileGrammars() map[string]string {
	chain := func(n int) string {
		var b strings.Builder
		b.WriteString("root ::= r0\n")
		for i := range n {
			fmt.Fprintf(&b, "r%d ::= r%d\n", i, i+1)
		}
		fmt.Fprintf(&b, "r%d ::= \"x\"\n", n)
		return b.String()
	}
	binary := func(n int) string {
		var b strings.Builder
		b.WriteString("root ::= r0\n")
		for i := range n {
			fmt.Fprintf(&b, "r%d ::= r%d | r%d\n", i, i+1, i+1)
		}
		fmt.Fprintf(&b, "r%d ::= \"x\"\n", n)
		return b.String()
	}
	return map[string]string{
		"empty":                    "",
		"syntax":                   "root ::= (",
		"no root":                  `other ::= "x"`,
		"undefined rule":           "root ::= missing",
		"unknown escape":           `root ::= "\q"`,
		"open literal":             `root ::= "abc`,
		"open class":               "root ::= [abc",
		"no arrow":                 "root = x",
		"nothing to repeat":        "root ::= *",
		"repeated nothing":         `root ::= ""*`,
		"NUL byte":                 "root ::= \"a\x00b\"",
		"invalid UTF-8":            "root ::= \"\xff\"",
		"llguidance":               "%llguidance {}\nstart: /a/",
		"llguidance after space":   "  \n\t%llguidance {}\nstart: /a/",
		"llguidance after comment": "# comment\n%llguidance {}\nstart: /a/",
		"too large":                "root ::= \"" + strings.Repeat("a", 300<<10) + "\"",
		"200k nested brackets":     "root ::= " + strings.Repeat("(", 100_000) + `"a"` + strings.Repeat(")", 100_000),
		"101 nested brackets":      "root ::= " + strings.Repeat("(", 101) + `"a"` + strings.Repeat(")", 101),
		"30k optional items":       "root ::= " + strings.Repeat(`"a"? `, 30_000),
		"600 optional items":       "root ::= " + strings.Repeat(`"a"? `, 600),
		"40 binary choices":        binary(40),
		"chain of rules":           chain(10_000),
		"left recursion":           `root ::= root "x" | "y"`,
		"hidden left recursion":    "root ::= a root \"x\" | \"y\"\na ::= b\nb ::= \"z\"?",
		"mutual left recursion":    "root ::= a\na ::= b \"x\"\nb ::= a \"y\" | \"z\"",
		"repetition bomb":          `root ::= "` + strings.Repeat("a", 100<<10) + `"{2000}`,
		"optional repetitions":     "root ::= " + strings.Repeat(`[a]{0,2000} "b" `, 520),
		"too many repetitions":     `root ::= "a"{3000}`,
		"huge repetition":          `root ::= "a"{99999999999999999999}`,
		"repetition turned":        `root ::= "a"{5,2}`,
		"token outside":            "root ::= <[99999999]>",
		"unknown token":            "root ::= <no-such-token>",
		"open token":               "root ::= <abc",
		"huge class":               "root ::= [" + strings.Repeat("a", 255<<10) + "]*",
		"many large classes":       "root ::= " + strings.Repeat("["+strings.Repeat("a", 60)+`] "z" | `, 3800) + `"b"`,
	}
}

func TestHostileGrammars(t *testing.T) {
	m := fixtureModel(t)
	for name, gbnf := range hostileGrammars() {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, llama.CheckGrammar(m, gbnf), llama.ErrInvalidGrammar)
			if gbnf != "" {
				_, err := llama.NewSampler(m, llama.SamplerParams{Grammar: gbnf})
				require.ErrorIs(t, err, llama.ErrInvalidGrammar)
			}
		})
	}
}

func TestGrammarErrorsNameTheLine(t *testing.T) {
	m := fixtureModel(t)
	err := llama.CheckGrammar(m, "root ::= a\na ::= \"x\" )\n")
	require.EqualError(t, err, `llama: invalid grammar at 2:11: expected the rule's end at ")\n"`)
}

// Everything that the limits let through must be cheap for llama.cpp, too.
func TestGrammarsAtTheLimits(t *testing.T) {
	alternatives := make([]string, 4000)
	for i := range alternatives {
		alternatives[i] = fmt.Sprintf(`"w%d"`, i)
	}
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 64})
	for name, gbnf := range map[string]string{
		"optional items": "root ::= " + strings.Repeat(`"a"? `, 500) + `"b"`,
		"alternatives":   "root ::= " + strings.Join(alternatives, " | "),
		"repetitions":    `root ::= ("a" | "b"){0,1000} "c"{0,2000}`,
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			require.NoError(t, llama.CheckGrammar(m, gbnf))
			s := newSampler(t, m, llama.SamplerParams{Grammar: gbnf})
			out := generate(t, c, s, []llama.Token{1}, 4)
			require.NotEmpty(t, out)
			require.NoError(t, c.Memory().Clear())
			t.Log(time.Since(begin))
		})
	}
}

func TestGrammarConstrainsSampling(t *testing.T) {
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 128})
	for _, p := range []llama.SamplerParams{{}, {Temperature: 2, Seed: 7}} {
		p.Grammar = `root ::= "ab" ("c" | "d") "e"`
		s := newSampler(t, m, p)
		out := generate(t, c, s, []llama.Token{1}, 16)
		require.True(t, m.Vocab().IsEOG(out[len(out)-1]), "the grammar ends, so the text does")
		text, err := m.Vocab().Detokenize(out, false, false)
		require.NoError(t, err)
		require.Regexp(t, `^ab[cd]e$`, text)
		require.NoError(t, c.Memory().Clear())
	}
}

func TestGrammarRejects(t *testing.T) {
	m := fixtureModel(t)
	v := m.Vocab()
	c := newContext(t, m, llama.ContextParams{NCtx: 64})
	one := func(text string) llama.Token {
		toks, err := v.Tokenize(text, false, false)
		require.NoError(t, err)
		require.Len(t, toks, 1)
		return toks[0]
	}
	s := newSampler(t, m, llama.SamplerParams{Grammar: `root ::= "ab"`})
	require.NoError(t, s.Accept(v.EOS()), "the end of generation is no text and may come at any time")
	require.NoError(t, s.Accept(one("a")))
	require.ErrorIs(t, s.Accept(one("x")), llama.ErrGrammarRejected)

	// the grammar's state is gone: everything is an error until Reset, nothing an abort
	require.ErrorIs(t, s.Accept(one("b")), llama.ErrGrammarRejected)
	require.NoError(t, c.Decode(batchOf(t, []llama.Token{1}, 0, 0)))
	_, err := s.Sample(c, 0)
	require.ErrorIs(t, err, llama.ErrGrammarRejected)
	clone, err := s.Clone()
	require.NoError(t, err)
	_, err = clone.Sample(c, 0)
	require.ErrorIs(t, err, llama.ErrGrammarRejected)
	require.NoError(t, clone.Close())
	require.NoError(t, s.Reset())
	tok, err := s.Sample(c, 0)
	require.NoError(t, err)
	require.Contains(t, []llama.Token{one("a"), 3 + 'a'}, tok, "the letter or its byte")

	// a grammar that the vocabulary cannot write, and one whose only way is forbidden by a bias
	for _, p := range []llama.SamplerParams{
		{Grammar: "root ::= \"\\x01\"", LogitBias: map[llama.Token]float32{4: float32(negInf)}},
		{Grammar: `root ::= "a"`, LogitBias: map[llama.Token]float32{one("a"): float32(negInf), llama.Token(3 + 'a'): float32(negInf)}},
	} {
		s := newSampler(t, m, p)
		rows := []llama.SampleRow{{Index: 0, Sampler: s}}
		require.NoError(t, c.Memory().Clear())
		require.NoError(t, c.DecodeSample(batchOf(t, []llama.Token{1}, 0, 0), rows))
		require.ErrorIs(t, rows[0].Err, llama.ErrGrammarRejected)
		require.Equal(t, llama.NullToken, rows[0].Token)
	}
}

// The stacks of this grammar double with each token, which no look at its rules can tell.
func TestGrammarThatGrowsFails(t *testing.T) {
	m := fixtureModel(t)
	x, err := m.Vocab().Tokenize("x", false, false)
	require.NoError(t, err)
	s := newSampler(t, m, llama.SamplerParams{Grammar: "root ::= a\na ::= \"x\" a \"y\" | \"x\" a \"z\" | \"x\""})
	accepted := 0
	for ; accepted < 40 && err == nil; accepted++ {
		err = s.Accept(x[0])
	}
	require.ErrorIs(t, err, llama.ErrGrammarBudget)
	require.ErrorContains(t, err, "too ambiguous")
	require.Greater(t, accepted, 5)
	require.NoError(t, s.Reset())
	require.NoError(t, s.Accept(x[0]))
}

// A grammar that passes our limits is one that llama.cpp takes and that a sampler can use: what llama.cpp refuses, it writes to
// stderr, and what it should have refused ends the process.
func FuzzGrammar(f *testing.F) {
	m := fixtureModel(f)
	c := newContext(f, m, llama.ContextParams{NCtx: 64})
	for _, gbnf := range hostileGrammars() {
		if len(gbnf) < 1000 {
			f.Add(gbnf)
		}
	}
	f.Add("root ::= (\n  \"a\" # one\n  | b+\n)\nb ::= [^\\x00-\\x1F\"\\\\] \"\\u00e9\" \"\\U0001F600\"\n")
	f.Add(`root ::= "a"{3} "b"{2,} "c"{0,5} [a-z-]* "d"? . <|im_end|> | !<[3]>`)
	f.Fuzz(func(t *testing.T, gbnf string) {
		// a deadline as an end of the process: nothing else stops a call of C
		defer time.AfterFunc(20*time.Second, func() { panic("hangs: " + strconv.Quote(gbnf)) }).Stop()
		if err := llama.CheckGrammar(m, gbnf); err != nil {
			if strings.Contains(err.Error(), "failed to parse") || strings.Contains(err.Error(), "gave no reason") {
				t.Fatalf("%q: %v", gbnf, err)
			}
			return
		}
		s := newSampler(t, m, llama.SamplerParams{Grammar: gbnf, Temperature: 3, Seed: 1})
		if err := c.Memory().Clear(); err != nil {
			t.Fatal(err)
		}
		rows := []llama.SampleRow{{Index: 0, Sampler: s}}
		for i := range 8 {
			if err := c.DecodeSample(batchOf(t, []llama.Token{llama.Token(1 + i)}, llama.Pos(i), 0), rows); err != nil {
				t.Fatal(err)
			}
			if rows[0].Err != nil {
				break // no token of this vocabulary goes on
			}
		}
	})
}
