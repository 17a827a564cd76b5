package llama_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

// misuser calls the API with any arguments in any order. Every call may fail; the process may not.
type misuser struct {
	rng      *rand.Rand
	m        *llama.Model
	contexts []*llama.Context
	samplers []*llama.Sampler
	batches  []*llama.Batch
	template *llama.ChatTemplate
	prompt   *llama.ChatPrompt
	parser   *llama.ChatParser
	grammars []string
}

// number gives an integer that is often sensible, often at a border and sometimes absurd.
func (u *misuser) number() int {
	switch u.rng.IntN(8) {
	case 0:
		return -1
	case 1:
		return 0
	case 2:
		return u.rng.IntN(1 << 31)
	case 3:
		return -u.rng.IntN(1 << 31)
	case 4:
		return u.rng.IntN(600)
	default:
		return u.rng.IntN(6)
	}
}

func (u *misuser) token() llama.Token {
	if u.rng.IntN(10) == 0 {
		return llama.Token(u.number())
	}
	return llama.Token(u.rng.IntN(u.m.Vocab().NTokens()))
}

func (u *misuser) text() string {
	texts := []string{"", "a", "hello <|im_end|>", "\x00", "\xff\xfe", "日本", "root ::= \"a\"", "{}", "[[", "<|im_start|>user\n"}
	return texts[u.rng.IntN(len(texts))]
}

func pick[T any](u *misuser, all []T) T {
	var zero T
	if len(all) == 0 || u.rng.IntN(60) == 0 {
		return zero
	}
	return all[u.rng.IntN(len(all))]
}

func (u *misuser) step() string {
	c, s, b := pick(u, u.contexts), pick(u, u.samplers), pick(u, u.batches)
	seq := func() llama.SeqID { return llama.SeqID(u.number()) }
	pos := func() llama.Pos { return llama.Pos(u.number()) }
	grammar := pick(u, u.grammars)
	switch k := u.rng.IntN(30); k {
	case 0:
		if len(u.contexts) < 4 {
			c, err := llama.NewContext(u.m, llama.ContextParams{NCtx: u.number() % 2048, NBatch: u.number() % 600, NUBatch: u.number() % 600, NSeqMax: u.number() % 300,
				NOutputsMax: u.number() % 600, NThreads: u.number() % 3, KVUnified: u.rng.IntN(2) == 0, FlashAttn: llama.FlashAttn(u.number() % 4), TypeK: llama.KVType(u.number() % 9)})
			if err == nil {
				u.contexts = append(u.contexts, c)
			}
		}
		return "NewContext"
	case 1:
		if s, err := llama.NewSampler(u.m, llama.SamplerParams{Temperature: float32(u.number()), TopK: int32(u.number()), TopP: u.rng.Float32() * 1.2, MinP: u.rng.Float32(),
			PenaltyLastN: int32(u.number()), RepeatPenalty: u.rng.Float32(), Grammar: grammar, Seed: u.rng.Uint32(), XTCProbability: u.rng.Float32(), TopNSigma: u.rng.Float32()}); err == nil {
			u.samplers = append(u.samplers, s)
		}
		return "NewSampler"
	case 2:
		u.batches = append(u.batches, llama.NewBatch(8+u.number()%4096))
		return "NewBatch"
	case 3:
		if len(u.contexts) > 1 { // the first one stays, or the rest would be about closed ones
			i := 1 + u.rng.IntN(len(u.contexts)-1)
			_ = u.contexts[i].Close()
			if u.rng.IntN(2) == 0 {
				u.contexts = slices.Delete(u.contexts, i, i+1)
			}
		}
		return "Context.Close"
	case 4:
		if u.rng.IntN(5) == 0 {
			_ = s.Close()
		}
		return "Sampler.Close"
	case 5, 6, 7, 8, 9:
		if c == nil || b == nil {
			return "skip"
		}
		if u.rng.IntN(6) > 0 {
			b.Clear()
			c.ResetAbort()
		}
		id := llama.SeqID(u.rng.IntN(3))
		from := c.Memory().PosMax(id) + 1
		if from > 200 {
			_ = c.Memory().SeqRemove(id, -1, -1)
			from = 0
		}
		for i := range 1 + u.rng.IntN(5) {
			_, _ = b.Add(llama.Token(u.rng.IntN(u.m.Vocab().NTokens())), from+llama.Pos(i), id, u.rng.IntN(2) == 0)
		}
		rows := make([]llama.SampleRow, u.rng.IntN(4))
		for i := range rows {
			rows[i] = llama.SampleRow{Index: u.rng.IntN(5), Sampler: pick(u, u.samplers)}
		}
		if u.rng.IntN(2) == 0 {
			rows = nil
		}
		if c.DecodeSample(b, rows) == nil {
			return "DecodeSample that worked"
		}
		return "DecodeSample"
	case 10:
		_, _ = b.Add(llama.Token(u.number()), pos(), seq(), true)
		return "Batch.Add"
	case 11:
		_ = c.Decode(b)
		return "Decode"
	case 12:
		_, _ = c.Logits(u.number())
		return "Logits"
	case 13, 14:
		_, _ = s.Sample(c, u.number())
		return "Sample"
	case 15:
		_ = s.Accept(u.token())
		return "Accept"
	case 16:
		_ = s.AcceptPrompt([]llama.Token{u.token(), u.token()})
		return "AcceptPrompt"
	case 17:
		_ = s.Reset()
		return "Reset"
	case 18:
		if clone, err := s.Clone(); err == nil {
			u.samplers = append(u.samplers, clone)
		}
		return "Clone"
	case 19, 20, 21:
		if c == nil {
			return "skip"
		}
		mem := c.Memory()
		switch u.rng.IntN(7) {
		case 0:
			_ = mem.SeqRemove(seq(), pos(), pos())
		case 1:
			_ = mem.SeqCopy(seq(), seq(), pos(), pos())
		case 2:
			_ = mem.SeqKeep(seq())
		case 3:
			_ = mem.SeqAdd(seq(), pos(), pos(), pos())
		case 4:
			_ = mem.SeqDiv(seq(), pos(), pos(), u.number())
		case 5:
			_ = mem.Clear()
		default:
			_, _ = mem.PosMin(seq()), mem.PosMax(seq())
		}
		return "Memory"
	case 22:
		v := u.m.Vocab()
		_, _ = v.Tokenize(u.text(), true, true)
		_, _ = v.Detokenize([]llama.Token{u.token(), u.token()}, true, false)
		_, _ = v.AppendPiece(nil, u.token(), true)
		_, _ = v.Text(u.token())
		_, _ = v.IsEOG(u.token()), v.IsControl(u.token())
		return "Vocab"
	case 23:
		_ = llama.CheckGrammar(u.m, grammar)
		_, _ = llama.SchemaToGrammar([]byte(u.text()))
		return "CheckGrammar"
	case 24:
		if t, err := llama.NewChatTemplate(u.m, "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"); err == nil {
			_ = u.template.Close()
			u.template = t
		}
		return "NewChatTemplate"
	case 25, 26:
		p, err := u.template.Apply(llama.ChatTemplateRequest{
			Messages:            []llama.ChatMessage{{Role: []string{"user", "assistant", "tool", u.text()}[u.rng.IntN(4)], Content: u.text(), ReasoningContent: u.text()}},
			Tools:               []llama.Tool{{Name: "f", Parameters: json.RawMessage(u.text())}}[:u.rng.IntN(2)],
			Schema:              json.RawMessage([]string{"", `{"type":"object"}`, u.text()}[u.rng.IntN(3)]),
			AddGenerationPrompt: true,
		})
		if err == nil {
			u.prompt = p
		}
		return "Apply"
	case 27:
		if u.prompt != nil {
			if s, err := u.prompt.Sampler(u.m, llama.SamplerParams{}); err == nil {
				u.samplers = append(u.samplers, s)
			}
			if p, err := u.prompt.NewParser(); err == nil {
				_ = u.parser.Close()
				u.parser = p
			}
		}
		return "Prompt"
	case 28:
		_, _ = u.parser.Parse(u.text(), u.rng.IntN(2) == 0)
		return "Parse"
	default:
		c.Abort()
		if u.rng.IntN(4) > 0 {
			c.ResetAbort()
		}
		_ = u.m.Close() // refused while a context is open
		return "Abort"
	}
}

func (u *misuser) close() error {
	for _, c := range u.contexts {
		if err := c.Close(); err != nil {
			return err
		}
	}
	for _, s := range u.samplers {
		if err := s.Close(); err != nil {
			return err
		}
	}
	return u.m.Close()
}

const misuseSeed = "LLAMA_TEST_SEED"

func init() {
	children["misuse"] = func() error {
		seed, err := strconv.ParseUint(os.Getenv(misuseSeed), 10, 64)
		if err != nil {
			return err
		}
		f, err := os.CreateTemp("", "*.gguf")
		if err != nil {
			return err
		}
		defer os.Remove(f.Name())
		if _, err := f.Write(fixture.Llama(1).Bytes()); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		m, err := llama.LoadModel(context.Background(), f.Name(), llama.ModelParams{})
		if err != nil {
			return err
		}
		u := &misuser{rng: rand.New(rand.NewPCG(seed, 0)), m: m}
		u.grammars = []string{"", `root ::= "a"`, `root ::= [a-z]+ "." root?`, "root ::= <|im_end|>", `root ::= "\x01"`, `root ::= `}
		keep, err := llama.NewContext(m, llama.ContextParams{NCtx: 256, NSeqMax: 3, KVUnified: true, NThreads: 1})
		if err != nil {
			return err
		}
		defer keep.Close()
		u.contexts = append(u.contexts, keep)
		calls := map[string]int{}
		for i := range 3000 {
			fmt.Println("step", i)
			calls[u.step()]++
		}
		if calls["DecodeSample that worked"] < 5 {
			return fmt.Errorf("too little misuse was close to use: %v", calls)
		}
		fmt.Println(calls)
		return u.close()
	}
}

// Thousands of random calls in a process of its own: one that aborts or crashes fails here, with the seed that shows it.
func TestMisuseDoesNotAbort(t *testing.T) {
	for seed := range 10 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			out := runChild(t, "misuse", 3*time.Minute, fmt.Sprintf("%s=%d", misuseSeed, seed))
			require.Contains(t, out, "DecodeSample")
			t.Log(lastLine(out))
		})
	}
}
