package llama_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

// The oracle is llama.cpp's own tools, built of the same tree with the same options.
func peer(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "bin", "peers", name))
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%v: run 'make peers'", err) // `make test` builds them first and lets no such skip pass
	}
	return path
}

func runPeer(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), peer(t, name), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), "%s: %s", name, lastLine(errs.String()))
	return out.String()
}

var oraclePrompts = []string{
	"The capital of France is",
	"Once upon a time, in a village by the sea,",
	"def fibonacci(n):",
	"Q: What is 12 + 30?\nA:",
	"The three primary colours are",
	"<|im_start|>user\nWrite a haiku about rain.<|im_end|>\n<|im_start|>assistant\n",
	"<|im_start|>system\nYou are terse.<|im_end|>\n<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n",
	"In 1969, humans first",
	"SELECT name, age FROM users WHERE",
	"# Shopping list\n- milk\n- bread\n-",
	"Le chat est assis sur",
	"Das Wetter in Berlin ist heute",
	"富士山は",
	"Привет, меня зовут",
	"The quick brown fox 🦊 jumps over",
	"{\"name\": \"Alice\", \"age\":",
	"To be, or not to be,",
	"Water boils at a temperature of",
	"Dear Sir or Madam,\n\nI am writing to",
	"1, 1, 2, 3, 5, 8, 13,",
}

// Greedy text of 64 tokens must be llama-completion's, byte for byte, with the same threads, batch sizes and attention.
func TestOracleGreedy(t *testing.T) {
	const n, nCtx, nBatch, nUBatch = 64, 512, 256, 64
	for _, tt := range []struct {
		ref     string
		prompts []string
	}{{"default", oraclePrompts}, {"gemma3-270m", oraclePrompts[:3]}} {
		m := testModel(t, tt.ref)
		path, err := modelPath(tt.ref)
		require.NoError(t, err)
		c := newContext(t, m, llama.ContextParams{NCtx: nCtx, NBatch: nBatch, NUBatch: nUBatch, NThreads: 1, FlashAttn: llama.FlashAttnOff})
		s := newSampler(t, m, llama.SamplerParams{})
		for i, prompt := range tt.prompts {
			t.Run(fmt.Sprintf("%s/%d", tt.ref, i), func(t *testing.T) {
				want := complete(t, path, prompt, "--temp", "0", "-n", strconv.Itoa(n),
					"-c", strconv.Itoa(nCtx), "-b", strconv.Itoa(nBatch), "-ub", strconv.Itoa(nUBatch), "-t", "1", "-fa", "off")

				prompt, err := m.Vocab().Tokenize(prompt, true, true)
				require.NoError(t, err)
				require.NoError(t, c.Memory().Clear())
				got := generate(t, c, s, prompt, n)
				if text := pieces(t, m.Vocab(), got); text != want {
					t.Fatal(firstDifference(t, c, prompt, got, want))
				}
			})
		}
	}
}

// complete runs llama-completion on bare text.
func complete(t testing.TB, path, prompt string, args ...string) string {
	t.Helper()
	text := runPeer(t, "llama-completion", append([]string{"-m", path, "-p", prompt, "-no-cnv", "--no-display-prompt", "--no-escape", "--no-warmup", "--simple-io"}, args...)...)
	// the tool ends its output with line breaks, and says so where the model ended the text
	return strings.TrimSuffix(strings.TrimSuffix(text, "\n\n"), " [end of text]\n")
}

// With llama.cpp's default samplers and a seed the text is llama-completion's, too: same chain, same draws.
func TestOracleSampled(t *testing.T) {
	const n, seed = 48, 7
	m := testModel(t, "default")
	path, err := modelPath("default")
	require.NoError(t, err)
	c := newContext(t, m, llama.ContextParams{NCtx: 512, FlashAttn: llama.FlashAttnOff})
	defaults := llama.DefaultSamplerParams()
	for name, tt := range map[string]struct {
		args   []string
		params llama.SamplerParams
	}{
		"defaults":  {nil, defaults},
		"penalties": {[]string{"--repeat-penalty", "1.3", "--presence-penalty", "0.5", "--temp", "1.1"}, llama.SamplerParams{Temperature: 1.1, TopK: 40, TopP: 0.95, MinP: 0.05, RepeatPenalty: 1.3, PresencePenalty: 0.5}},
	} {
		t.Run(name, func(t *testing.T) {
			want := complete(t, path, oraclePrompts[1], append(tt.args, "--seed", strconv.Itoa(seed), "-n", strconv.Itoa(n), "-c", "512", "-t", "1", "-fa", "off")...)
			tt.params.Seed = seed
			s := newSampler(t, m, tt.params)
			prompt, err := m.Vocab().Tokenize(oraclePrompts[1], true, true)
			require.NoError(t, err)
			require.NoError(t, s.AcceptPrompt(prompt))
			require.NoError(t, c.Memory().Clear())
			require.Equal(t, want, pieces(t, m.Vocab(), generate(t, c, s, prompt, n)))
		})
	}
}

func pieces(t testing.TB, v *llama.Vocab, toks []llama.Token) string {
	t.Helper()
	var text []byte
	for _, tok := range toks {
		var err error
		text, err = v.AppendPiece(text, tok, false)
		require.NoError(t, err)
	}
	return string(text)
}

// firstDifference names the first token that differs from the oracle's text and by how much its logit won.
func firstDifference(t *testing.T, c *llama.Context, prompt, got []llama.Token, want string) string {
	v := c.Model().Vocab()
	for i := range got {
		text := pieces(t, v, got[:i+1])
		if strings.HasPrefix(want, text) {
			continue
		}
		require.NoError(t, c.Memory().Clear())
		require.NoError(t, c.Decode(batchOf(t, prompt, 0, 0)))
		at := len(prompt) - 1
		for j := range i {
			require.NoError(t, c.Decode(batchOf(t, got[j:j+1], llama.Pos(len(prompt)+j), 0)))
			at = 0
		}
		logits, err := c.Logits(at)
		require.NoError(t, err)
		slices.Sort(logits)
		return fmt.Sprintf("token %d differs: got %q, llama-completion goes on with %.20q; its logit leads by %v",
			i, pieces(t, v, got[i:i+1]), want[len(pieces(t, v, got[:i])):], logits[len(logits)-1]-logits[len(logits)-2])
	}
	return fmt.Sprintf("ends early: llama-completion goes on with %q", want[len(pieces(t, v, got)):])
}

var oracleTexts = map[string]string{
	"english":        "Hello, world! It's 5 o'clock; let's go.",
	"empty":          "",
	"space":          " ",
	"spaces":         "  a   b    c     \t\t d\n\n\n e \r\n f",
	"digits":         "1234567890 3.14159 1,000,000 0x1F 1e-9",
	"code":           "for (int i = 0; i < n; ++i) {\n\tprintf(\"%d\\n\", a[i]);\n}",
	"emoji":          "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 ❤️ 🦊",
	"cjk":            "日本語のテキスト。中文文本，標點。한국어 문장입니다.",
	"combining":      "e\u0301 n\u0303 a\u0308o\u0308 Z\u0351\u036b\u0343 क्षि ไทยำ",
	"arabic hebrew":  "السلام عليكم שלום עולם",
	"cyrillic":       "Съешь ещё этих мягких французских булок",
	"rare":           "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 \U0010FFFF \u200b\u200d\ufeff",
	"bytes":          "\x01\x02\x1b[31m\x7f",
	"invalid UTF-8":  "a\xffb\xc3(\xe2\x82 \xf0\x9f\x98 \xed\xa0\x80 \xc0\xaf end",
	"lone byte":      "\x80",
	"chatml":         "<|im_start|>user\nhi<|im_end|>\n",
	"specials":       "<|endoftext|><s></s><bos><eos><start_of_turn>user<end_of_turn><unk><pad>",
	"broken special": "<|im_start| > <|im_ end|> <|IM_START|> <|im_start|",
	"nested special": "<|im_<|im_start|>start|>",
	"special spaces": " <|im_end|>  <|im_end|>\n<|im_end|>x",
	"gpt unused":     "<unused0><unused99>[INST][/INST]<|user|>",
	"long word":      strings.Repeat("supercalifragilistic", 20),
	"long run":       strings.Repeat("a", 500) + strings.Repeat(" ", 50) + strings.Repeat("\n", 30),
	"apostrophes":    "I'm you're he'S WE'LL they’ve",
	"urls":           "https://example.com/a?b=c&d=%20#frag user@example.org",
}

// Tokens must be llama-tokenize's.
func TestOracleTokenize(t *testing.T) {
	for _, ref := range []string{"default", "gemma3-270m"} {
		m := testModel(t, ref)
		path, err := modelPath(ref)
		require.NoError(t, err)
		for name, text := range oracleTexts {
			for _, special := range []bool{true, false} {
				if !special && !strings.Contains(text, "<") {
					continue // no special text: the same question again
				}
				t.Run(fmt.Sprintf("%s/%s/special=%v", ref, name, special), func(t *testing.T) {
					file := filepath.Join(t.TempDir(), "text")
					require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
					args := []string{"-m", path, "-f", file, "--ids", "--no-escape", "--log-disable"}
					if !special {
						args = append(args, "--no-parse-special")
					}
					var want []llama.Token
					require.NoError(t, json.Unmarshal([]byte(runPeer(t, "llama-tokenize", args...)), &want))
					got, err := m.Vocab().Tokenize(text, true, special)
					require.NoError(t, err)
					require.True(t, slices.Equal(want, got), "want %v, got %v", want, got)
				})
			}
		}
	}
}
