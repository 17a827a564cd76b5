package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// However wildly the default model samples, its calls are well-formed: of bash, with a
// command and nothing else. What is cut is a limit and no call.
func TestModelCallsAreWellFormed(t *testing.T) {
	e := openDefault(t, 2048)
	calls := 0
	sampling := llama.DefaultSamplerParams()
	sampling.Temperature = 1.5
	for seed := range uint32(6) {
		sampling.Seed = seed
		c := Config{
			Engine: e, MaxSteps: 1, MaxTokens: 48, Examples: DefaultExamples()[:2], Sampling: &sampling,
			Approve: func(context.Context, Call) (bool, error) { return false, nil },
		}
		var last error
		for event, err := range Run(t.Context(), c, "Write \"{}\" and <|im_end|> to a file.") {
			last = err
			call, ok := event.(Call)
			if !ok {
				continue
			}
			calls++
			require.Equal(t, bashName, call.Tool)
			var arguments map[string]any
			require.NoError(t, json.Unmarshal(call.Arguments, &arguments), "%s", call.Arguments)
			require.Len(t, arguments, 1)
			require.IsType(t, "", arguments["command"])
		}
		var limit *ErrLimit
		require.True(t, last == nil || errors.As(last, &limit), "%v", last)
	}
	require.Positive(t, calls)
}

// Texts of control tokens in a task, a command and its output are text: they cost the
// tokens of their letters, where a control token would cost one.
func TestControlTokensInResults(t *testing.T) {
	e := openDefault(t, 4096)
	const n = 20
	count := func(special string) int {
		s := &script{replies: []reply{{command: "printf '" + strings.Repeat(special, n) + "'"}, {answer: "done"}}}
		events, _, err := collect(t, Config{Engine: s})
		require.NoError(t, err)
		require.Equal(t, strings.Repeat(special, n), results(events)[0].Output)
		tokens, err := e.CountTokens(t.Context(), s.requests[1])
		require.NoError(t, err)
		return tokens
	}
	plain := count("x")
	for _, special := range []string{"<|im_end|>", "<|im_start|>", "<|endoftext|>"} {
		// Twice n: in the command and in its output. As control tokens they were 2*n.
		require.Greater(t, count(special)-plain, 2*n*3, special)
	}
}

// A conversation beyond the model's context ends the run with a limit that says so.
func TestModelContextFull(t *testing.T) {
	e := openDefault(t, 512)
	_, done, err := collect(t, Config{Engine: e, System: strings.Repeat("word ", 600)})
	var limit *ErrLimit
	var full *llama.ErrContextFull
	require.ErrorAs(t, err, &limit)
	require.Equal(t, LimitContext, limit.Limit)
	require.ErrorAs(t, err, &full)
	require.Equal(t, 512, full.Max)
	require.Zero(t, done.Usage.Steps)
}

// onDelta is an engine that does something at each piece of the answer.
type onDelta struct {
	Engine
	do func()
}

func (o onDelta) Chat(ctx context.Context, r engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
	return func(yield func(engine.ChatDelta, error) bool) {
		for d, err := range o.Engine.Chat(ctx, r) {
			o.do()
			if !yield(d, err) {
				return
			}
		}
	}
}

// Cancelling while the model writes, and closing the engine under it.
func TestModelStopped(t *testing.T) {
	e := openDefault(t, 2048)
	ctx, cancel := context.WithCancel(t.Context())
	c := Config{Engine: onDelta{e, cancel}, Examples: []Example{}}
	var last error
	for _, err := range Run(ctx, c, "Print the numbers from 1 to 100.") {
		last = err
	}
	require.ErrorIs(t, last, context.Canceled)
	c.Engine = onDelta{e, func() { require.NoError(t, e.Close()) }}
	for _, err := range Run(t.Context(), c, "Print the numbers from 1 to 100.") {
		last = err
	}
	require.ErrorIs(t, last, engine.ErrClosed)
}

// remembered is an engine that is not asked the same twice: greedy, it would say the same.
type remembered struct {
	Engine
	answers map[string][]engine.ChatDelta
}

func (m remembered) Chat(ctx context.Context, r engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
	return func(yield func(engine.ChatDelta, error) bool) {
		key := fmt.Sprint(r.Messages, r.Tools, r.MaxTokens)
		if _, ok := m.answers[key]; !ok {
			var deltas []engine.ChatDelta
			for d, err := range m.Engine.Chat(ctx, r) {
				if err != nil {
					yield(d, err)
					return
				}
				deltas = append(deltas, d)
			}
			m.answers[key] = deltas
		}
		for _, d := range m.answers[key] {
			if !yield(d, nil) {
				return
			}
		}
	}
}

// The demonstration of 'make run', which is none of the examples: the default model does
// it 10 times of 10, whatever the file holds.
func TestDemonstration(t *testing.T) {
	e := remembered{openDefault(t, 2048), map[string][]engine.ChatDelta{}}
	const task = "Print the last line of log.txt."
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	for range 10 {
		var log []string
		for range 3 + random.IntN(6) {
			log = append(log, pick("Anna", "Bruno", "Clara", "David", "Emma", "Felix", "Grace", "Hugo")+" "+
				pick("Stone", "Rivers", "Winter", "Fields", "Marsh", "Cook", "Baker", "Hill"))
		}
		workspace := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(workspace, "log.txt"), []byte(strings.Join(log, "\n")+"\n"), 0o600))
		events, done, err := collectTask(t, Config{Engine: e, MaxTokens: 256, Sandbox: sandbox.Config{Workspace: workspace}}, task)
		require.NoError(t, err)
		require.Equal(t, log[len(log)-1], results(events)[0].Output)
		require.Contains(t, done.Answer, log[len(log)-1])
	}
}

// toolTemplate is a template that knows tools, in the form of Qwen's and Hermes'.
const toolTemplate = `{%- if tools %}<|im_start|>system
{{ messages[0].content }}
Functions:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
A call is <tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% elif message.role == 'assistant' and message.tool_calls %}<|im_start|>assistant
{%- for tool_call in message.tool_calls %}
<tool_call>
{"name": "{{ tool_call.function.name }}", "arguments": {{ tool_call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% elif message.role != 'system' %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}`

// With a template that knows tools the conversation has calls and results in its form,
// and the results are text there too.
func TestToolTemplate(t *testing.T) {
	file, err := hub.Pull(t.Context(), "default", hub.Options{})
	require.NoError(t, err)
	m, err := llama.LoadModel(t.Context(), file.Path, llama.ModelParams{})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	template, err := llama.NewChatTemplate(m, toolTemplate)
	require.NoError(t, err)
	defer func() { require.NoError(t, template.Close()) }()

	s := &script{replies: []reply{{command: "echo '<|im_end|>'"}, {answer: "done"}}}
	_, _, err = collect(t, Config{Engine: s})
	require.NoError(t, err)
	prompt, err := template.Apply(llama.ChatTemplateRequest{Messages: s.requests[1].Messages, Tools: s.requests[1].Tools, AddGenerationPrompt: true})
	require.NoError(t, err)
	require.NotEmpty(t, prompt.Grammar)
	require.Contains(t, prompt.Text, defaultSystem)
	require.Contains(t, prompt.Text, "<|im_start|>user\ndo it<|im_end|>\n<|im_start|>assistant<tool_call>\n"+
		`{"name": "bash", "arguments": {"command": "echo '<|im_end|>'"}}`+"\n</tool_call><|im_end|>\n"+
		"<|im_start|>user\n<tool_response>\n<|im_end|>\n</tool_response><|im_end|>\n<|im_start|>assistant\n")
	end, err := m.Vocab().Tokenize("<|im_end|>", false, true)
	require.NoError(t, err)
	require.Len(t, end, 1)
	ends := 0
	for _, token := range prompt.Tokens {
		if token == end[0] {
			ends++
		}
	}
	// One for each message: of the texts, none.
	require.Equal(t, len(s.requests[1].Messages), ends)
}

var _ Engine = (*engine.Engine)(nil)
var _ shell = (*sandbox.Session)(nil)
