package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// isolated opens the default model in a worker process.
func isolated(t testing.TB, p engine.Params) *engine.Engine {
	t.Helper()
	m, err := hub.Pull(t.Context(), "", hub.Options{})
	require.NoError(t, err)
	p.Isolated = true
	return openModel(t, m.Path, p)
}

// openModel opens a model for one thread.
func openModel(t testing.TB, path string, p engine.Params) *engine.Engine {
	t.Helper()
	p.Model.NGPULayers = llama.NoLayers
	if p.NCtx == 0 {
		p.NCtx = 1024
	}
	if p.NThreads == 0 {
		p.NThreads = 1
	}
	e, err := engine.Open(t.Context(), path, p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// workers are the process ids of this process's workers.
func workers(t testing.TB) (pids []int) {
	t.Helper()
	self := strconv.Itoa(os.Getpid())
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // has just ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		fields := strings.Fields(rest)
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if fields[0] != "Z" && fields[1] == self && strings.HasSuffix(string(line), "\x00worker\x00") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// worker is the one that lives.
func worker(t testing.TB) int {
	t.Helper()
	pids := workers(t)
	require.Len(t, pids, 1)
	return pids[0]
}

// TestIsolated: an engine in a worker process does what one in this process does.
func TestIsolated(t *testing.T) {
	params := engine.Params{
		MaxSequences: 2, MaxQueue: 2, NCtx: 2048,
		ChatTemplate: "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if enable_thinking %}think{% endif %}<|im_start|>assistant\n",
	}
	path := fixture.Llama(1).With("llama.context_length", uint32(2048)).Write(t)
	inside := openModel(t, path, params)
	params.Isolated = true
	outside := openModel(t, path, params)
	require.Nil(t, outside.Model())
	require.True(t, outside.HasChatTemplate())
	yes, no := true, false

	t.Run("Generate", func(t *testing.T) {
		for name, r := range map[string]engine.Request{
			"greedy":  {Prompt: france, MaxTokens: 8, Sampling: greedy()},
			"seed":    {Prompt: france, MaxTokens: 8, Sampling: &llama.SamplerParams{Seed: 7, Temperature: 0.5}},
			"schema":  {Prompt: "x", Schema: json.RawMessage(`{"const":true}`), Sampling: greedy()},
			"endless": {Prompt: france, MaxTokens: 40, IgnoreEOS: true, Sampling: greedy()},
			"stop":    {Prompt: france, MaxTokens: 40, Stop: []string{"Paris"}, Sampling: greedy()},
			"no text": {Prompt: "\xff\xfe", MaxTokens: 2, Sampling: greedy()},
		} {
			t.Run(name, func(t *testing.T) {
				want, got := generate(t, inside, r), generate(t, outside, r)
				require.Equal(t, want.text, got.text)
				require.Equal(t, want.tokens, got.tokens)
				require.Equal(t, want.result.FinishReason, got.result.FinishReason)
				require.Equal(t, want.result.Usage.Output, got.result.Usage.Output)
				require.Equal(t, want.result.Seed, got.result.Seed)
				require.Positive(t, got.result.Timings.Prompt)
			})
		}
	})
	t.Run("Chat", func(t *testing.T) {
		for name, r := range map[string]engine.ChatRequest{
			"plain":        {Messages: user("hi"), MaxTokens: 8, Sampling: greedy()},
			"tool":         {Messages: user("hi"), MaxTokens: 16, Sampling: greedy(), Tools: []llama.Tool{weather}, ToolChoice: "required"},
			"thinking":     {Messages: user("hi"), MaxTokens: 2, Sampling: greedy(), EnableThinking: &yes},
			"not thinking": {Messages: user("hi"), MaxTokens: 2, Sampling: greedy(), EnableThinking: &no},
		} {
			t.Run(name, func(t *testing.T) {
				want, got := chat(t, inside, r), chat(t, outside, r)
				require.Equal(t, want.content, got.content)
				require.Equal(t, want.reasoning, got.reasoning)
				for i := range want.calls {
					require.Equal(t, want.calls[i].Name, got.calls[i].Name)
					require.Equal(t, want.calls[i].Arguments, got.calls[i].Arguments)
				}
				require.Equal(t, want.result.FinishReason, got.result.FinishReason)
				n, err := outside.CountTokens(t.Context(), r)
				require.NoError(t, err)
				require.Equal(t, want.result.Usage.Prompt, n)
			})
		}
	})
	t.Run("GenerateInto", func(t *testing.T) {
		value, _, err := engine.GenerateInto[bool](t.Context(), outside, engine.ChatRequest{Messages: user("yes?"), Sampling: greedy(), MaxTokens: 9})
		require.NoError(t, err)
		t.Log(value)
	})
	t.Run("errors", func(t *testing.T) {
		for name, r := range map[string]engine.Request{
			"field":   {Prompt: "x", MaxTokens: -1},
			"length":  {Prompt: strings.Repeat("word ", 2000)},
			"token":   {Tokens: []llama.Token{-5}},
			"grammar": {Prompt: "x", Grammar: "root ::= ("},
			"schema":  {Prompt: "x", Schema: json.RawMessage(`{`)},
		} {
			t.Run(name, func(t *testing.T) {
				_, want := collect(t, t.Context(), inside, r)
				_, got := collect(t, t.Context(), outside, r)
				require.EqualError(t, got, want.Error())
				for _, target := range []error{llama.ErrInvalidToken, llama.ErrInvalidGrammar, llama.ErrInvalidSchema, llama.ErrGrammarRejected} {
					require.Equal(t, errors.Is(want, target), errors.Is(got, target), target)
				}
				switch name {
				case "field":
					require.Equal(t, want, got)
				case "length":
					require.Equal(t, want, got)
					require.IsType(t, &llama.ErrContextFull{}, got)
				}
			})
		}
	})
	require.NoError(t, outside.Close())
	_, err := collect(t, t.Context(), outside, endless())
	require.Equal(t, engine.ErrClosed, err)
	require.Positive(t, outside.Stats().Finished)
	require.Empty(t, workers(t))
}

// TestIsolatedConsumers: a request ends as its consumer wants, and none waits for
// another one's.
func TestIsolatedConsumers(t *testing.T) {
	outside := isolated(t, engine.Params{MaxSequences: 2, MaxQueue: 2})
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var last error
		var result *engine.Result
		for d, err := range outside.Generate(ctx, endless()) {
			last, result = err, d.Result
			cancel()
		}
		require.Equal(t, context.Canceled, last)
		require.Equal(t, engine.FinishCancelled, result.FinishReason)
		requireIdle(t, outside)
		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := collect(t, ctx, outside, endless())
		require.Equal(t, context.DeadlineExceeded, err)
		for range outside.Generate(t.Context(), endless()) {
			break
		}
		requireIdle(t, outside)
	})
	t.Run("slow reader", func(t *testing.T) {
		deltas, tokens := 0, 0
		r := engine.Request{Prompt: france, MaxTokens: 40, IgnoreEOS: true, Sampling: greedy()}
		for d, err := range outside.Generate(t.Context(), r) {
			require.NoError(t, err)
			if deltas++; deltas == 1 {
				// Others are not held up, and what this one has not read is merged.
				generate(t, outside, engine.Request{Prompt: france, MaxTokens: 30, IgnoreEOS: true, Sampling: greedy()})
			}
			tokens += len(d.Tokens)
		}
		require.Equal(t, 40, tokens)
	})
	t.Run("busy", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 4)
		for range 4 {
			go func() {
				_, err := collect(t, ctx, outside, endless())
				done <- err
			}()
		}
		require.Eventually(t, func() bool { s := outside.Stats(); return s.Running+s.Waiting == 4 }, 30*time.Second, time.Millisecond)
		_, err := collect(t, t.Context(), outside, endless())
		require.Equal(t, engine.ErrBusy, err)
		cancel()
		for range 4 {
			require.Equal(t, context.Canceled, <-done)
		}
	})
	require.Zero(t, outside.Stats().Restarts)
}

// TestWorkerDies: whatever ends the worker, its requests learn of it at once, and the
// next one has another.
func TestWorkerDies(t *testing.T) {
	e := isolated(t, engine.Params{MaxSequences: 8})
	before := openFiles(t)
	for i, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGABRT} {
		t.Run(signal.String(), func(t *testing.T) {
			pid := worker(t)
			begun, ended := make(chan struct{}, 8), make(chan error, 8)
			for range 8 {
				go func() {
					first := true
					for _, err := range e.Generate(t.Context(), endless()) {
						if err != nil {
							ended <- err
						} else if first {
							begun <- struct{}{}
						}
						first = false
					}
				}()
			}
			for range 8 {
				<-begun
			}
			require.NoError(t, syscall.Kill(pid, signal))
			killed := time.Now()
			for range 8 {
				var died *engine.ErrWorkerDied
				require.ErrorAs(t, <-ended, &died)
				if signal == syscall.SIGKILL {
					require.Equal(t, "killed", died.Signal)
				} else {
					require.Regexp(t, `(?m)^SIG(SEGV|ABRT): `, died.Log)
				}
			}
			require.Less(t, time.Since(killed), 5*time.Second)
			require.NotEmpty(t, generate(t, e, engine.Request{Prompt: france, MaxTokens: 2}).tokens)
			require.Equal(t, uint64(i+1), e.Stats().Restarts)
		})
	}
	t.Run("closed meanwhile", func(t *testing.T) {
		ended := make(chan error, 1)
		for _, err := range e.Generate(t.Context(), endless()) {
			if err != nil {
				ended <- err
				break
			}
			require.NoError(t, e.Close())
		}
		require.ErrorIs(t, <-ended, engine.ErrClosed)
	})
	require.Empty(t, workers(t))
	assert.Less(t, openFiles(t), before, "the sockets and pipes are closed")
}

func openFiles(t *testing.T) int {
	files, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(files)
}

// TestCompileBudget: what a request brings is compiled within the budget or refused,
// with a chat and without.
func TestCompileBudget(t *testing.T) {
	e := isolated(t, engine.Params{ChatTemplate: `{{ messages[0].content }}`, CompileBudget: time.Nanosecond})
	for _, r := range []engine.Request{{Grammar: `root ::= "a"`}, {Schema: []byte(`{"type":"null"}`)}, {Choices: []string{"a"}}} {
		r.Prompt = "x"
		_, err := collect(t, t.Context(), e, r)
		require.ErrorIs(t, err, llama.ErrGrammarBudget)
	}
	_, err := collectChat(t, e, engine.ChatRequest{Messages: user("x")})
	require.ErrorIs(t, err, llama.ErrChatTemplate)
	generate(t, e, engine.Request{Prompt: "x", MaxTokens: 1})
}

// hostile is a chat template that does what its message says.
const hostile = `{% macro down(n) %}{{ down(n + 1) }}{% endmacro %}` +
	`{% for m in messages %}{% if m.content == "loop" %}{% for i in range(2000000000) %}{% endfor %}{% elif m.content == "crash" %}{{ down(0) }}{% endif %}{{ m.content }}{% endfor %}`

// TestHostileTemplate: a template that runs for ever or crashes ends its own request
// and nobody else's.
func TestHostileTemplate(t *testing.T) {
	e := isolated(t, engine.Params{ChatTemplate: hostile, MaxSequences: 4, CompileBudget: time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	neighbour, begun := make(chan error, 1), make(chan struct{})
	go func() {
		var last error
		once := sync.OnceFunc(func() { close(begun) })
		for _, err := range e.Generate(ctx, endless()) {
			last = err
			once()
		}
		neighbour <- last
	}()
	<-begun
	for _, text := range []string{"loop", "crash"} {
		begin := time.Now()
		_, err := collectChat(t, e, engine.ChatRequest{Messages: user(text), MaxTokens: 2})
		require.ErrorIs(t, err, llama.ErrChatTemplate, text)
		require.Less(t, time.Since(begin), 30*time.Second)
		_, err = e.CountTokens(t.Context(), engine.ChatRequest{Messages: user("good")})
		require.NoError(t, err)
	}
	chat(t, e, engine.ChatRequest{Messages: user("good"), MaxTokens: 2, Sampling: greedy()})
	cancel()
	require.Equal(t, context.Canceled, <-neighbour)
	require.Zero(t, e.Stats().Restarts)
}

// TestCompileTurns: what compiles for ever keeps others waiting, as many as the queue has room for, and who leaves
// meanwhile leaves at once.
func TestCompileTurns(t *testing.T) {
	const sequences, queue, budget = 4, 2, 5 * time.Second
	e := isolated(t, engine.Params{ChatTemplate: hostile, MaxSequences: sequences, MaxQueue: queue, CompileBudget: budget})
	loops := make(chan error, sequences+queue)
	for range sequences + queue {
		go func() {
			err := engine.ErrBusy
			for errors.Is(err, engine.ErrBusy) { // by the questions below
				_, err = collectChat(t, e, engine.ChatRequest{Messages: user("loop")})
			}
			loops <- err
		}()
	}
	require.Eventually(t, func() bool {
		_, err := collect(t, t.Context(), e, engine.Request{Prompt: "x", MaxTokens: 1})
		return errors.Is(err, engine.ErrBusy)
	}, budget, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := e.CountTokens(ctx, engine.ChatRequest{Messages: user("good")})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(begin), budget)
	for range sequences + queue {
		require.ErrorIs(t, <-loops, llama.ErrChatTemplate)
	}
	_, err = e.CountTokens(t.Context(), engine.ChatRequest{Messages: user("good")})
	require.NoError(t, err)
	require.Zero(t, e.Stats().Restarts)
}

// TestCompileLeft: who waits for what compiles for ever leaves with the context, and when the engine closes.
func TestCompileLeft(t *testing.T) {
	e := isolated(t, engine.Params{ChatTemplate: hostile, CompileBudget: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for _, err := range e.Chat(ctx, engine.ChatRequest{Messages: user("loop")}) {
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	require.Zero(t, e.Stats().Waiting)
	ended := make(chan error, 1)
	go func() {
		_, err := collectChat(t, e, engine.ChatRequest{Messages: user("loop")})
		ended <- err
	}()
	require.Eventually(t, func() bool { return e.Stats().Waiting == 1 }, 30*time.Second, time.Millisecond)
	begin := time.Now()
	require.NoError(t, e.Close())
	require.ErrorIs(t, <-ended, engine.ErrClosed)
	require.Less(t, time.Since(begin), 5*time.Second, "or the worker was killed")
}

// TestIsolatedBadModel: what the worker says about a file that is no model arrives as it is.
func TestIsolatedBadModel(t *testing.T) {
	for name, value := range map[string]any{"llama.block_count": uint32(0), "general.architecture": "nonsense"} {
		path := fixture.Llama(1).With(name, value).Write(t)
		_, err := engine.Open(t.Context(), path, engine.Params{Isolated: true, Model: llama.ModelParams{NGPULayers: llama.NoLayers}})
		require.ErrorIs(t, err, llama.ErrModelFormat, name)
	}
	require.Empty(t, workers(t))
}

// TestWorkerEndsWithItsParent: however a program ends, its workers are gone at once.
func TestWorkerEndsWithItsParent(t *testing.T) {
	path := fixture.Llama(1).Write(t)
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), "ENGINE_TEST_PARENT="+path)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			var worker, compiler int
			_, err = fmt.Fscan(out, &worker, &compiler)
			require.NoError(t, err)
			require.NoError(t, cmd.Process.Signal(signal))
			_ = cmd.Wait()
			for _, pid := range []int{worker, compiler} {
				require.Eventually(t, func() bool { return gone(pid) }, 30*time.Second, time.Millisecond)
			}
		})
	}
}

// gone says that a process has ended, whether or not somebody has fetched its state.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// TestWorkerRestartsElsewhere: a worker that takes another one's place finds the same files, wherever its owner has moved.
func TestWorkerRestartsElsewhere(t *testing.T) {
	target, draft := fixture.Speculative()
	here := t.TempDir()
	for name, f := range map[string]*fixture.File{"model.gguf": target, "draft.gguf": draft, "lora.gguf": fixture.LoRA(1)} {
		require.NoError(t, os.Rename(f.Write(t), filepath.Join(here, name)))
	}
	program, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(program, filepath.Join(here, "program")))
	t.Chdir(here)
	e, err := engine.Open(t.Context(), "model.gguf", engine.Params{
		NCtx: 512, NThreads: 1, Isolated: true, WorkerPath: "./program", Cache: engine.CacheParams{Dir: "prompts"},
		Speculative: engine.Speculative{DraftModel: "draft.gguf"}, Adapters: map[string]string{"a": "lora.gguf"},
	})
	require.NoError(t, err)
	elsewhere := t.TempDir()
	t.Chdir(elsewhere)
	r := engine.Request{Prompt: "again and again", MaxTokens: 20, IgnoreEOS: true, Sampling: greedy(), Adapters: []engine.AdapterScale{{Name: "a", Scale: 1}}}
	before := generate(t, e, r)
	pid, killed := worker(t), false
	for _, err := range e.Generate(t.Context(), endless()) {
		if err != nil {
			var died *engine.ErrWorkerDied
			require.ErrorAs(t, err, &died)
		} else if !killed {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			killed = true
		}
	}
	require.Equal(t, before.tokens, generate(t, e, r).tokens)
	require.NoError(t, e.Close())
	kept, err := os.ReadDir(filepath.Join(here, "prompts"))
	require.NoError(t, err)
	require.NotEmpty(t, kept)
	astray, err := os.ReadDir(elsewhere)
	require.NoError(t, err)
	require.Empty(t, astray)
}
