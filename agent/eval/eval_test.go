package eval

import (
	"context"
	"encoding/json"
	"iter"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lm-sandbox/lm-sandbox/agent"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// solutions are a command for each task. The output of the command is the answer.
var solutions = map[string]string{
	"make a directory":   "mkdir reports",
	"copy a file":        "cp a.txt b.txt",
	"rename a file":      "mv draft.txt final.txt",
	"remove a directory": "rm -r build",
	"write a word":       "echo hello > greeting.txt",
	"append a line":      "echo done >> status.txt",
	"count lines":        "wc -l notes.txt",
	"last line":          "tail -n 1 log.txt",
	"sort a file":        "sort fruits.txt > sorted.txt",
	"make executable":    "chmod +x run.sh",
	"count files":        "ls src | wc -l",
	"find a line":        "grep ERROR app.log",
	"multiply":           "echo $((317 * 23))",
	"replace a word":     "sed -i s/red/blue/ colors.txt",
	"find a file":        "cat $(find . -name secret.txt)",
	"size of a file":     "wc -c data.bin",
	"archive":            "tar -cf all.tar docs",
	"numbers":            "seq 1 10 > numbers.txt",
	"sum":                "awk '{ s += $1 } END { print s }' numbers.txt",
	"repair a script":    "echo fi >> fix.sh",
}

// solver calls bash with a command and answers with what came of it. "" answers at once.
type solver string

func (s solver) Chat(_ context.Context, r engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
	return func(yield func(engine.ChatDelta, error) bool) {
		last := r.Messages[len(r.Messages)-1]
		d := engine.ChatDelta{Content: last.Content, Result: &engine.Result{FinishReason: engine.FinishStop}}
		if last.Role == "user" {
			d.Content = "I did not do it."
			if s != "" {
				arguments, err := json.Marshal(map[string]string{"command": string(s)})
				if err != nil {
					yield(d, err)
					return
				}
				d.Content, d.ToolCalls = "", []engine.ToolCallDelta{{ID: "1", Name: "bash", Arguments: string(arguments)}}
			}
		}
		yield(d, nil)
	}
}

// Each task can be done, and one that was not done is not taken for done.
func TestTasks(t *testing.T) {
	tasks := Tasks()
	require.Len(t, tasks, 20)
	for _, task := range tasks {
		t.Run(task.Name, func(t *testing.T) {
			command, ok := solutions[task.Name]
			require.True(t, ok)
			o, err := Run(t.Context(), agent.Config{Engine: solver(command)}, task)
			require.NoError(t, err)
			require.True(t, o.Passed, "%+v", o)
			require.Equal(t, 2, o.Usage.Steps)

			o, err = Run(t.Context(), agent.Config{Engine: solver("")}, task)
			require.NoError(t, err)
			require.False(t, o.Passed, "%+v", o)

			for _, e := range agent.DefaultExamples() {
				require.NotEqual(t, e.Task, task.Task)
				require.NotEqual(t, e.Command, command)
			}
		})
	}
}

// A limit and a shell that ends are outcomes, and leave no directory.
func TestOutcomes(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	task := Tasks()[0]
	o, err := Run(t.Context(), agent.Config{Engine: solver("mkdir reports"), MaxSteps: 1}, task)
	require.NoError(t, err)
	require.True(t, o.Passed, "the work was done")
	require.ErrorContains(t, o.Err, "steps")

	o, err = Run(t.Context(), agent.Config{Engine: solver("exit 1")}, task)
	require.NoError(t, err)
	require.False(t, o.Passed)
	require.ErrorContains(t, o.Err, "shell")

	_, err = Run(t.Context(), agent.Config{Engine: solver("mkdir -p a/b; touch a/b/c; chmod 0 a/b a")}, task)
	require.NoError(t, err, "a directory without permissions goes too")

	_, err = Run(t.Context(), agent.Config{Engine: solver("true")}, Task{Name: "broken", Setup: "echo why >&2; false"})
	require.ErrorContains(t, err, "broken: the setup failed with exit code 1: why")
	_, err = Run(t.Context(), agent.Config{}, task)
	require.ErrorContains(t, err, "Engine")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Run(ctx, agent.Config{Engine: solver("true")}, task)
	require.ErrorIs(t, err, context.Canceled)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}
