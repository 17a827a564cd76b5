package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// chatFlags are the flags of 'chat'.
type chatFlags struct {
	engine    engineFlags
	sampling  samplingFlags
	system    string
	load      string
	maxTokens int
	stop      []string
}

const chatCommands = `  /reset         forget the conversation, but not the system message
  /system TEXT   set the system message; without TEXT there is none
  /save FILE     write the conversation to FILE, in JSON
  /load FILE     go on with a conversation that was saved
  /help          show this
A line that ends with a backslash goes on in the next one; so does everything
between """ and """. Ctrl-C stops the answer; at the prompt, twice ends, as Ctrl-D
does.
`

func newChat(std stdio) *cobra.Command {
	var f chatFlags
	cmd := &cobra.Command{
		Use:   "chat",
		Short: "talk with the model",
		Long: `Talk with the model, which remembers the conversation. Each line is a message;
the answer comes token by token on stdout, everything else is on stderr.

` + chatCommands + `
The program writes no colours. Lines can be edited, and earlier ones come back with
the arrow keys, except where $TERM is "dumb" or not set. When stdin is no terminal,
each of its lines is a message too, and the first error ends the program.`,
		Example: `  lm-sandbox chat
  lm-sandbox chat --system 'Answer in one sentence.' --load yesterday.json
  printf 'Name a river.\nAnd another one.\n' | lm-sandbox chat --temp 0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), std) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.system, "system", "", "`text` of the system message")
	fs.StringVar(&f.load, "load", "", "`file` with a saved conversation to go on with")
	fs.IntVarP(&f.maxTokens, "n-predict", "n", 512, "most `tokens` of one answer; 0: until the context is full")
	fs.StringArrayVar(&f.stop, "stop", nil, "`text` that ends an answer; may be given again")
	f.sampling.register(fs)
	f.engine.register(fs)
	return cmd
}

func (f *chatFlags) run(ctx context.Context, std stdio) (err error) {
	if f.maxTokens < 0 {
		return usage(fmt.Errorf("-n %d is negative", f.maxTokens), "0 means until the context is full")
	}
	c := &chat{std: std, flags: f, interactive: isTerminal(std.in)}
	if f.load != "" {
		if c.messages, err = loadConversation(f.load); err != nil {
			return usage(err, "--load names a file that /save wrote")
		}
	}
	if f.system != "" {
		c.setSystem(f.system)
	}
	e, m, err := f.engine.open(ctx, std, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	if !e.HasChatTemplate() {
		return &failure{code: exitModel, err: fmt.Errorf("%s: %w", m.Name, llama.ErrNoChatTemplate), hint: "'lm-sandbox run --raw' continues bare text"}
	}
	c.engine = e

	if c.interactive {
		caught, release := catchInterrupts(ctx)
		defer release()
		c.interrupts = caught
		c.note("%s; /help lists the commands, Ctrl-D ends", m.Name)
	}
	kind := os.Getenv("TERM")
	c.input = newLines(std, c.interrupts, kind != "" && kind != "dumb")
	return c.run(ctx)
}
