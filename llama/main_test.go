package llama_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// children are functions that run in a process of their own, where an abort of llama.cpp can be seen without ending the tests.
var children = map[string]func() error{}

const childVariable = "LLAMA_TEST_CHILD"

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		if err := children[name](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	models.close()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runChild runs a child and fails with what it said last where it fails, is killed or takes longer than the deadline.
func runChild(t *testing.T, name string, deadline time.Duration, env ...string) string {
	t.Helper()
	text, err := child(t, name, deadline, env...)
	if err != nil {
		t.Fatalf("child %s: %v; its last words:\n%s", name, err, lastWords(text))
	}
	return text
}

func child(t *testing.T, name string, deadline time.Duration, env ...string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(append(os.Environ(), childVariable+"="+name), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// sharedModels loads each model once for all tests.
type sharedModels struct {
	mu     sync.Mutex
	loaded map[string]*llama.Model
}

var models = &sharedModels{loaded: map[string]*llama.Model{}}

func (s *sharedModels) close() {
	for ref, m := range s.loaded {
		if err := m.Close(); err != nil {
			fmt.Fprintf(os.Stderr, "model %s: %v\n", ref, err)
			os.Exit(1)
		}
	}
}

// modelPath pulls a model by its reference, once per machine.
func modelPath(ref string) (string, error) {
	m, err := hub.Pull(context.Background(), ref, hub.Options{})
	return m.Path, err
}

// testModel gives a real model.
func testModel(t testing.TB, ref string) *llama.Model {
	t.Helper()
	models.mu.Lock()
	defer models.mu.Unlock()
	if m := models.loaded[ref]; m != nil {
		return m
	}
	path, err := modelPath(ref)
	require.NoError(t, err)
	m, err := llama.LoadModel(context.Background(), path, llama.ModelParams{})
	require.NoError(t, err)
	models.loaded[ref] = m
	return m
}

// fixtureModel gives the random-weight model.
func fixtureModel(t testing.TB) *llama.Model {
	t.Helper()
	m, err := llama.LoadModel(context.Background(), fixture.Llama(1).Write(t), llama.ModelParams{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

// wideModel is the random-weight model with one head of 32, a quantised K cache's block.
func wideModel(t testing.TB) *llama.Model {
	t.Helper()
	f := fixture.Llama(1).With("llama.attention.head_count", uint32(1)).With("llama.attention.head_count_kv", uint32(1)).
		With("llama.rope.dimension_count", uint32(fixture.NEmbd))
	m, err := llama.LoadModel(context.Background(), f.Write(t), llama.ModelParams{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

// newContext gives a context that is closed at the end of the test; one thread, since other work shares the machine.
func newContext(t testing.TB, m *llama.Model, p llama.ContextParams) *llama.Context {
	t.Helper()
	if p.NThreads == 0 {
		p.NThreads = 1
	}
	c, err := llama.NewContext(m, p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func newSampler(t testing.TB, m *llama.Model, p llama.SamplerParams) *llama.Sampler {
	t.Helper()
	s, err := llama.NewSampler(m, p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// batchOf gives a batch of tokens at positions from p on, the last one with logits.
func batchOf(t testing.TB, toks []llama.Token, p llama.Pos, s llama.SeqID) *llama.Batch {
	t.Helper()
	b := llama.NewBatch(len(toks))
	for i, tok := range toks {
		_, err := b.Add(tok, p+llama.Pos(i), s, i == len(toks)-1)
		require.NoError(t, err)
	}
	return b
}

// generate decodes a prompt in sequence 0 and then n tokens.
func generate(t testing.TB, c *llama.Context, s *llama.Sampler, prompt []llama.Token, n int) []llama.Token {
	t.Helper()
	var out []llama.Token
	b := batchOf(t, prompt, 0, 0)
	rows := []llama.SampleRow{{Index: len(prompt) - 1, Sampler: s}}
	for {
		require.NoError(t, c.DecodeSample(b, rows))
		require.NoError(t, rows[0].Err)
		out = append(out, rows[0].Token)
		if len(out) == n || c.Model().Vocab().IsEOG(rows[0].Token) {
			return out
		}
		b = batchOf(t, out[len(out)-1:], llama.Pos(len(prompt)+len(out)-1), 0)
		rows[0].Index = 0
	}
}

// withTemplate runs f with a model's chat template, for children.
func withTemplate(path, source string, f func(*llama.ChatTemplate) error) error {
	m, err := llama.LoadModel(context.Background(), path, llama.ModelParams{})
	if err != nil {
		return err
	}
	defer m.Close()
	ct, err := llama.NewChatTemplate(m, source)
	if err != nil {
		return err
	}
	defer ct.Close()
	return f(ct)
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// lastWords leaves out the stacks of a crash.
func lastWords(text string) string {
	head, _, _ := strings.Cut(text, "\ngoroutine ")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}
