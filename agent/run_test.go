package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// All calls of a run are made in one shell, whose results the model is told.
func TestRunKeepsTheShell(t *testing.T) {
	s := &script{replies: []reply{
		{command: "mkdir a && cd a && x=5"}, {command: "pwd; echo $x; echo no >&2; false"}, {answer: "it is 5"},
	}}
	events, done, err := collect(t, Config{Engine: s})
	require.NoError(t, err)
	require.Equal(t, "it is 5", done.Answer)
	require.Equal(t, Usage{Steps: 3, Calls: 2, Prompt: 30, Output: 3, Wall: done.Usage.Wall}, done.Usage)
	require.Positive(t, done.Usage.Wall)
	got := results(events)
	require.Equal(t, "[no output, exit code 0]", got[0].Output)
	require.Equal(t, "/workspace/a\n5\nno\n[exit code 1]", got[1].Output)
	require.NoError(t, got[1].Err)
	require.Positive(t, got[1].Duration)

	last := s.requests[2].Messages
	require.Equal(t, llama.ChatMessage{Role: "tool", Name: "bash", ToolCallID: "call_x", Content: got[1].Output}, last[len(last)-1])
	require.Equal(t, "mkdir a && cd a && x=5", command(t, events[0].(Call)))
	require.Equal(t, []llama.ToolCall{{ID: "call_x", Name: "bash", Arguments: bashArguments("mkdir a && cd a && x=5")}}, last[len(last)-4].ToolCalls)
}

// Nobody types: a command that reads its stdin finds the end. Whatever it is, it is
// evaluated as it was written, in the session's own shell.
func TestCommands(t *testing.T) {
	for command, want := range map[string]string{
		"cat; read x; echo got $x":          "got",
		"-n":                                "bash: -n: command not found\n[exit code 127]",
		"echo 'it'\\''s' \"$(echo \"'\")\"": "it's '",
		"cat <<'E'\n}\nE":                   "}",
		"echo a \\":                         "a \\",
		"f() { echo $1; }\nf 7 # comment":   "7",
		"cd /tmp && x=3":                    "[no output, exit code 0]",
	} {
		events, _, err := collect(t, Config{Engine: &script{replies: []reply{{command: command}, {command: "echo $PWD $x; tty"}, {answer: "done"}}}})
		require.NoError(t, err)
		require.Equal(t, want, results(events)[0].Output, command)
		after := "/workspace"
		if strings.HasPrefix(command, "cd") {
			after = "/tmp 3"
		}
		require.Equal(t, after+"\nnot a tty\n[exit code 1]", results(events)[1].Output, command)
	}
	events, _, err := collect(t, Config{Engine: &script{replies: []reply{{command: "if true; then"}, {command: "echo on"}, {answer: "done"}}}})
	require.NoError(t, err)
	require.Contains(t, results(events)[0].Output, "syntax error")
	require.Equal(t, "on", results(events)[1].Output)
}

func TestLimits(t *testing.T) {
	for name, tt := range map[string]struct {
		config Config
		reply  reply
		limit  LimitKind
		calls  int
	}{
		"steps":             {Config{MaxSteps: 3}, reply{command: "true"}, LimitSteps, 3},
		"tokens of all":     {Config{MaxTokens: 50}, reply{command: "true", output: 20}, LimitTokens, 3},
		"tokens of one":     {Config{}, reply{command: "true", finish: engine.FinishLength}, LimitTokens, 0},
		"wall, model":       {Config{Wall: 100 * time.Millisecond}, reply{hang: func() {}}, LimitWall, 0},
		"wall, command":     {Config{Wall: 3 * time.Second}, reply{command: "sleep 60"}, LimitWall, 1},
		"context, output":   {Config{}, reply{answer: "half an", finish: engine.FinishContext}, LimitContext, 0},
		"context, question": {Config{}, reply{err: &llama.ErrContextFull{Have: 9, Max: 8}}, LimitContext, 0},
	} {
		t.Run(name, func(t *testing.T) {
			tt.config.Engine = &script{replies: []reply{tt.reply}}
			_, done, err := collect(t, tt.config)
			var limit *ErrLimit
			require.ErrorAs(t, err, &limit)
			require.Equal(t, tt.limit, limit.Limit)
			require.Equal(t, tt.calls, done.Usage.Calls)
			require.Empty(t, done.Answer)
			var full *llama.ErrContextFull
			require.Equal(t, name == "context, question", errors.As(err, &full))
		})
	}
}

// What the engine is asked never exceeds what is left of the tokens.
func TestTokensLeft(t *testing.T) {
	s := &script{replies: []reply{{command: "true", output: 20}}}
	_, _, err := collect(t, Config{Engine: s, MaxTokens: 50})
	require.Error(t, err)
	var left []int
	for _, r := range s.requests {
		left = append(left, r.MaxTokens)
	}
	require.Equal(t, []int{50, 30, 10}, left)
}

func TestApprove(t *testing.T) {
	replies := []reply{{command: "touch refused"}, {command: "ls -A"}, {answer: "done"}}
	s := &script{replies: replies}
	events, done, err := collect(t, Config{Engine: s, Approve: func(_ context.Context, c Call) (bool, error) {
		return command(t, c) == "ls -A", nil
	}})
	require.NoError(t, err)
	require.Equal(t, 1, done.Usage.Calls)
	got := results(events)
	require.True(t, got[0].Refused)
	require.Contains(t, got[0].Output, "refused")
	require.Equal(t, got[0].Output, s.requests[1].Messages[len(s.requests[1].Messages)-1].Content)
	require.Equal(t, "[no output, exit code 0]", got[1].Output, "the refused command was not run")

	cause := errors.New("no terminal")
	_, done, err = collect(t, Config{Engine: &script{replies: replies}, Approve: func(context.Context, Call) (bool, error) {
		return true, cause
	}})
	require.ErrorIs(t, err, cause)
	require.Zero(t, done.Usage.Calls)
}

// The model is told of a tool's error and goes on; one that is marked ends the run.
func TestToolErrors(t *testing.T) {
	cause := errors.New("no such city")
	tool := Func("weather", "", func(_ context.Context, w weather) (string, error) {
		if w.City == "Atlantis" {
			return "", Fatal(cause)
		}
		return "so far", cause
	})
	s := &script{replies: []reply{
		{tool: "weather", args: `{"city":"Rome"}`}, {tool: "weather", args: `{"ci`}, {tool: "nothing", args: `{}`},
		{tool: "weather", args: `{"city":"Atlantis"}`},
	}}
	events, done, err := collect(t, Config{Engine: s, Tools: []Tool{tool}, NoBash: true})
	require.ErrorIs(t, err, cause)
	require.Equal(t, cause, err)
	require.Equal(t, 4, done.Usage.Calls)
	got := results(events)
	require.Equal(t, "so far\nerror: no such city", got[0].Output)
	require.ErrorIs(t, got[0].Err, cause)
	require.Contains(t, got[1].Output, "do not follow the schema")
	require.Equal(t, `{}`, string(got[1].Call.Arguments), "half an object is none")
	require.Equal(t, `error: there is no tool "nothing"`, got[2].Output)
	require.Equal(t, cause, got[3].Err)
	require.Len(t, s.requests[0].Messages, 1, "examples and system message are about bash")
}

// A shell that ends, ends the run.
func TestShellExits(t *testing.T) {
	for command, code := range map[string]int{"exit 7": 7, "exec true": 0, "kill -9 $$": 137} {
		events, _, err := collect(t, Config{Engine: &script{replies: []reply{{command: command}, {answer: "never"}}}})
		var exited *sandbox.ErrShellExited
		require.ErrorAs(t, err, &exited, command)
		require.Equal(t, code, exited.ExitCode, command)
		require.Equal(t, err, results(events)[0].Err)
	}
}

// A command that is stopped for its time is told to the model.
func TestCommandTimeout(t *testing.T) {
	s := &script{replies: []reply{{command: "x=kept"}, {command: "echo so far; sleep 60"}, {command: "echo $x"}, {answer: "done"}}}
	events, _, err := collect(t, Config{Engine: s, Sandbox: sandbox.Config{Limits: sandbox.Limits{Wall: 3 * time.Second}}})
	require.NoError(t, err)
	got := results(events)
	require.Equal(t, "so far\n[stopped, limit: timeout]", got[1].Output)
	require.Equal(t, "kept", got[2].Output)
}

func TestCancel(t *testing.T) {
	for name, r := range map[string]reply{"model": {}, "command": {command: "touch /workspace/started; sleep 60"}} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			workspace := t.TempDir()
			if name == "model" {
				r.hang = cancel
			} else {
				go func() {
					for ctx.Err() == nil {
						if _, err := os.Stat(filepath.Join(workspace, "started")); err == nil {
							cancel()
						}
						time.Sleep(time.Millisecond)
					}
				}()
			}
			var err error
			var last Event
			c := Config{Engine: &script{replies: []reply{r}}, Sandbox: sandbox.Config{Workspace: workspace}}
			for event, e := range Run(ctx, c, "do it") {
				last, err = event, e
			}
			require.ErrorIs(t, err, context.Canceled)
			require.IsType(t, Done{}, last)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range Run(ctx, Config{Engine: &script{}}, "do it") {
		require.ErrorIs(t, err, context.Canceled)
	}
}

// Leaving the loop at any event ends the run there. goleak sees what stays behind.
func TestLeave(t *testing.T) {
	replies := []reply{{command: "sleep 60 & echo started"}, {answer: "one"}}
	events, _, err := collect(t, Config{Engine: &script{replies: replies}})
	require.NoError(t, err)
	for n := range events {
		s := &script{replies: replies}
		seen := 0
		for range Run(t.Context(), Config{Engine: s}, "do it") {
			if seen == n {
				break
			}
			seen++
		}
		require.Equal(t, n, seen)
	}
}

func TestInvalid(t *testing.T) {
	tool := Func("a", "", func(context.Context, struct{}) (string, error) { return "", nil })
	bashTool := tool
	bashTool.Name = bashName
	s := &script{}
	for field, c := range map[string]Config{
		"Engine":    {},
		"MaxSteps":  {Engine: s, MaxSteps: -1},
		"MaxTokens": {Engine: s, MaxTokens: -1},
		"MaxResult": {Engine: s, MaxResult: -1},
		"Wall":      {Engine: s, Wall: -1},
		"Tools":     {Engine: s, NoBash: true},
		"Tools[0]":  {Engine: s, Tools: []Tool{bashTool}},
		"Tools[1]":  {Engine: s, Tools: []Tool{tool, tool}},
		"Tools[2]":  {Engine: s, Tools: []Tool{bashTool, tool, {Name: "b"}}, NoBash: true},
		"Examples":  {Engine: s, Tools: []Tool{tool}, NoBash: true, Examples: DefaultExamples()},
	} {
		events, _, err := collect(t, c)
		var invalid *ErrInvalid
		require.ErrorAs(t, err, &invalid, field)
		require.Equal(t, field, invalid.Field)
		require.Equal(t, []Event{nil}, events)
	}
	for _, err := range Run(t.Context(), Config{Engine: s}, " \n") {
		require.ErrorContains(t, err, "task")
	}
	var config *sandbox.ErrConfig
	_, _, err := collect(t, Config{Engine: s, Sandbox: sandbox.Config{Workspace: "/proc"}})
	require.ErrorAs(t, err, &config)
}

// A session of the caller's outlives the run.
func TestOwnSession(t *testing.T) {
	session, err := sandbox.NewSession(t.Context(), sandbox.Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, session.Close()) }()
	for _, command := range []string{"x=1", "echo $x"} {
		events, _, err := collect(t, Config{
			Engine: &script{replies: []reply{{command: command}, {answer: "done"}}}, NoBash: true, Tools: []Tool{Bash(session)},
		})
		require.NoError(t, err)
		if command != "x=1" {
			require.Equal(t, "1", results(events)[0].Output)
		}
	}
}

// A long result reaches the model with its beginning and its end.
func TestLongResult(t *testing.T) {
	s := &script{replies: []reply{{command: "seq 1 100000"}, {answer: "done"}}}
	events, _, err := collect(t, Config{Engine: s, MaxResult: 200})
	require.NoError(t, err)
	r := results(events)[0]
	require.True(t, strings.HasPrefix(r.Output, "1\n2\n3\n"), r.Output)
	require.True(t, strings.HasSuffix(r.Output, "\n99999\n100000"), r.Output)
	require.Greater(t, r.LeftOut, 500_000)
	require.Less(t, len(r.Output), 250)
	require.Equal(t, r.Output, s.requests[1].Messages[len(s.requests[1].Messages)-1].Content)
}
