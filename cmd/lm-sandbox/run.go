package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/spf13/cobra"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// runFlags are the flags of 'run'.
type runFlags struct {
	engine    engineFlags
	sampling  samplingFlags
	prompt    string
	system    string
	schema    string
	maxTokens int
	stop      []string
	ignoreEOS bool
	raw       bool
	asJSON    bool
}

func newRun(std stdio) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [TEXT...]",
		Short: "answer a prompt",
		Long: `Answer a prompt, token by token on stdout.

The prompt is what -p says, then the arguments joined by spaces, then, when there
is neither or when an argument is "-", stdin; the parts are joined by an empty
line. It goes to the model as one user message through the model's chat template.
A model without one continues the bare text, and so does every model with --raw,
where the texts of special tokens (<|im_start|>) stand for those tokens.

The prompt is not echoed. A newline is added at the end on a terminal only.
Reasoning, where the model marks it, goes to stderr.`,
		Example: `  lm-sandbox run 'Name three rivers'
  git diff | lm-sandbox run 'Summarise this change:' -
  lm-sandbox run --raw -p 'The capital of France is' -n 8 --temp 0
  lm-sandbox run --schema person.json --json 'Invent a person'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), std, args)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&f.prompt, "prompt", "p", "", "`text` of the prompt, or its first part")
	fs.StringVar(&f.system, "system", "", "`text` of the system message")
	fs.BoolVar(&f.raw, "raw", false, "continue the text instead of answering a message")
	fs.IntVarP(&f.maxTokens, "n-predict", "n", 512, "most `tokens` to generate; 0: until the context is full")
	fs.StringVar(&f.schema, "schema", "", "`file` with a JSON schema that the answer must follow")
	fs.StringArrayVar(&f.stop, "stop", nil, "`text` that ends the answer; may be given again")
	fs.BoolVar(&f.ignoreEOS, "ignore-eos", false, "do not stop where the model wants to")
	f.sampling.register(fs)
	fs.BoolVar(&f.asJSON, "json", false, "print one JSON object at the end")
	f.engine.register(fs)
	return cmd
}

func (f *runFlags) run(ctx context.Context, std stdio, args []string) (err error) {
	if f.maxTokens < 0 {
		return usage(fmt.Errorf("-n %d is negative", f.maxTokens), "0 means until the context is full")
	}
	prompt, err := promptText(ctx, f.prompt, args, std.in)
	if err != nil {
		return err
	}
	schema, err := readSchema(f.schema)
	if err != nil {
		return err
	}
	e, m, err := f.engine.open(ctx, std, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()

	deltas, err := f.deltas(ctx, e, prompt, schema)
	if err != nil {
		return err
	}
	if !f.asJSON {
		return stream(std, deltas)
	}
	a, err := collect(deltas)
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	a.Model = m.Name
	return errors.Join(writeJSON(std.out, a), err)
}

// deltas starts the request: the chat of one message, or the bare text.
func (f *runFlags) deltas(ctx context.Context, e *engine.Engine, prompt string, schema []byte) (iter.Seq2[engine.ChatDelta, error], error) {
	if !f.raw && e.HasChatTemplate() {
		messages := []llama.ChatMessage{{Role: "user", Content: prompt}}
		if f.system != "" {
			messages = append([]llama.ChatMessage{{Role: "system", Content: f.system}}, messages...)
		}
		return e.Chat(ctx, engine.ChatRequest{
			Messages: messages, Schema: schema, MaxTokens: f.maxTokens, Stop: f.stop,
			Sampling: &f.sampling.params, IgnoreEOS: f.ignoreEOS,
		}), nil
	}
	if f.system != "" {
		return nil, usage(errors.New("--system needs a model with a chat template, and no --raw"), "put the text into the prompt")
	}
	deltas := e.Generate(ctx, engine.Request{
		Prompt: prompt, ParseSpecial: true, Schema: schema, MaxTokens: f.maxTokens, Stop: f.stop,
		Sampling: &f.sampling.params, IgnoreEOS: f.ignoreEOS,
	})
	return func(yield func(engine.ChatDelta, error) bool) {
		for d, err := range deltas {
			if !yield(engine.ChatDelta{Content: d.Text, Result: d.Result}, err) {
				return
			}
		}
	}, nil
}

// readSchema reads the JSON schema in a file, "" is none. Checking it here tells of a
// mistake before a model is loaded for it.
func readSchema(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	schema, err := os.ReadFile(name)
	if err != nil {
		return nil, usage(err, "--schema names a file with a JSON schema")
	}
	if _, err := llama.SchemaToGrammar(schema); err != nil {
		return nil, usage(fmt.Errorf("%s: %w", name, err), "--schema names a file with a JSON schema")
	}
	return schema, nil
}
