package agent

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// Engine is the model: an [*engine.Engine].
type Engine interface {
	Chat(ctx context.Context, r engine.ChatRequest) iter.Seq2[engine.ChatDelta, error]
}

// Config says how a task is done. Only Engine must be set. It is plain data, and may be
// used for several runs at once.
type Config struct {
	Engine Engine
	// Sandbox is where the bash tool runs its commands. Each run has a session of its
	// own, which ends with it; set Sandbox.Workspace to keep the files.
	// Sandbox.Limits.Wall is the time of one command: the model is told that it was
	// stopped, and the session goes on.
	Sandbox sandbox.Config
	// Tools are called beside bash.
	Tools []Tool
	// NoBash leaves only Tools. The bash tool of a session of yours is [Bash].
	NoBash bool
	// Approve is asked before each call; false refuses it, which the model is told. An
	// error ends the run. nil = every call is made.
	Approve func(ctx context.Context, c Call) (bool, error)
	// MaxSteps is the most answers of the model, calls of tools included; 0 = 16.
	MaxSteps int
	// MaxTokens is the most tokens that the model writes in all steps together; 0 = 2048.
	MaxTokens int
	// Wall is the time for everything, also that of Approve; 0 = 5 minutes.
	Wall time.Duration
	// MaxResult is the most bytes of a result that the model is shown; 0 = 4096. Of a
	// longer one it sees the beginning and the end.
	MaxResult int
	// System is the system message; "" = a short one about the shell.
	System string
	// Examples are shown to the model as if they had been done before the task; nil =
	// DefaultExamples(), without bash none. Small models need them.
	Examples []Example
	// Sampling; nil = greedy: the same task gives the same calls.
	Sampling *llama.SamplerParams
}

// Example is a task that was done with one command.
type Example struct {
	Task    string
	Command string // of the bash tool
	Output  string
	Answer  string
}

const defaultSystem = "You do tasks in a Linux shell. Use bash, then answer with what you found."

// complete checks c and fills in the defaults.
func (c *Config) complete(task string) error {
	for _, f := range []struct {
		name     string
		v        *int
		standard int
	}{
		{"MaxSteps", &c.MaxSteps, 16},
		{"MaxTokens", &c.MaxTokens, 2048},
		{"MaxResult", &c.MaxResult, 4096},
	} {
		if *f.v < 0 {
			return invalid(f.name, "%d is negative", *f.v)
		}
		if *f.v == 0 {
			*f.v = f.standard
		}
	}
	if c.Wall < 0 {
		return invalid("Wall", "%v is negative", c.Wall)
	}
	if c.Wall == 0 {
		c.Wall = 5 * time.Minute
	}
	names := map[string]bool{bashName: !c.NoBash}
	for i, t := range c.Tools {
		field := fmt.Sprintf("Tools[%d]", i)
		switch {
		case t.err != nil:
			return invalid(field, "%s: %v", t.Name, t.err)
		case t.Name == "" || t.Call == nil:
			return invalid(field, "a tool needs a name and a function")
		case names[t.Name]:
			return invalid(field, "a second tool %q", t.Name)
		}
		names[t.Name] = true
	}
	switch {
	case c.Engine == nil:
		return invalid("Engine", "not set")
	case strings.TrimSpace(task) == "":
		return invalid("task", "empty: say what is to be done")
	case c.NoBash && len(c.Tools) == 0:
		return invalid("Tools", "no tool: without any, ask the engine itself")
	case c.NoBash && len(c.Examples) > 0:
		return invalid("Examples", "they show bash, which NoBash leaves out")
	}
	if c.Examples == nil && !c.NoBash {
		c.Examples = DefaultExamples()
	}
	if c.System == "" && !c.NoBash {
		c.System = defaultSystem
	}
	if c.Sampling == nil {
		c.Sampling = &llama.SamplerParams{}
	}
	return nil
}
