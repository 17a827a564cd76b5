package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// chat is a conversation and the terminal, or the pipe, that it is held over.
type chat struct {
	std         stdio
	flags       *chatFlags
	engine      *engine.Engine
	input       *lines
	interactive bool            // a person is at the other end of stdin
	interrupts  <-chan struct{} // Ctrl-C; nil where it ends the program
	messages    []llama.ChatMessage
}

// note tells the person something that is not the model's.
func (c *chat) note(format string, args ...any) {
	fmt.Fprintf(c.std.err, "["+format+"]\n", args...)
}

// run reads messages and answers them until the input ends.
func (c *chat) run(ctx context.Context) error {
	warned := false // the last thing was a Ctrl-C at the prompt
	for {
		message, verbatim, err := readMessage(ctx, c.input)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errInterrupt):
			if warned {
				return nil
			}
			warned = true
			c.note("Ctrl-C again, or Ctrl-D, ends")
			continue
		case err != nil:
			return err
		}
		warned = false
		if strings.TrimSpace(message) == "" {
			continue
		}
		name, argument, isCommand := parseCommand(message)
		if isCommand && !verbatim {
			err = c.command(name, argument)
		} else {
			err = c.ask(ctx, message)
		}
		if err == nil {
			continue
		}
		if !c.interactive || ctx.Err() != nil || errors.Is(err, errOutput) {
			return err
		}
		report(context.Background(), c.std.err, err)
	}
}

// parseCommand splits "/name argument". A path, such as /etc/hosts, is no command.
func parseCommand(message string) (name, argument string, ok bool) {
	word, argument, _ := strings.Cut(message, " ")
	name, ok = strings.CutPrefix(word, "/")
	ok = ok && !strings.ContainsFunc(name, func(r rune) bool { return r < 'a' || r > 'z' })
	return name, strings.TrimSpace(argument), ok
}

// command does what a line that begins with "/" says.
func (c *chat) command(name, argument string) error {
	switch name {
	case "help":
		_, err := io.WriteString(c.std.err, chatCommands)
		return err
	case "reset":
		c.messages = c.messages[:len(c.systemMessages())]
		c.note("the conversation is forgotten")
	case "system":
		c.setSystem(argument)
		if argument == "" {
			c.note("no system message")
		} else {
			c.note("the system message is set")
		}
	case "save":
		if err := saveConversation(argument, c.messages); err != nil {
			return err
		}
		c.note("%s: %d messages saved", argument, len(c.messages))
	case "load":
		messages, err := loadConversation(argument)
		if err != nil {
			return err
		}
		c.messages = messages
		c.note("%s: %d messages loaded", argument, len(messages))
	default:
		return usage(fmt.Errorf("/%s is no command", name), `/help lists them; a message that begins so goes between """ and """`)
	}
	return nil
}

// systemMessages is the system message, if there is one.
func (c *chat) systemMessages() []llama.ChatMessage {
	if len(c.messages) > 0 && c.messages[0].Role == "system" {
		return c.messages[:1]
	}
	return nil
}

func (c *chat) setSystem(text string) {
	rest := c.messages[len(c.systemMessages()):]
	c.messages = nil
	if text != "" {
		c.messages = []llama.ChatMessage{{Role: "system", Content: text}}
	}
	c.messages = append(c.messages, rest...)
}

// errOutput marks an error of stdout or stderr: nobody is there to talk with.
var errOutput = errors.New("writing the answer")

// ask puts the message to the model and shows the answer. What came of an answer
// that was stopped is kept; a message that was not answered at all is forgotten.
func (c *chat) ask(ctx context.Context, message string) error {
	c.messages = append(c.messages, llama.ChatMessage{Role: "user", Content: message})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := c.cancelOnInterrupt(ctx, cancel)
	answer, result, err := c.stream(ctx)
	if answer != "" {
		c.messages = append(c.messages, llama.ChatMessage{Role: "assistant", Content: answer})
	} else if err != nil {
		c.messages = c.messages[:len(c.messages)-1]
	}
	var full *llama.ErrContextFull
	switch {
	case errors.Is(err, context.Canceled) && stopped():
		c.note("stopped")
		return nil
	case errors.As(err, &full):
		return &failure{
			code: exitFailure, err: fmt.Errorf("the context is full: the conversation with this message has %d tokens, %d fit", full.Have, full.Max),
			hint: "/reset begins anew, /save keeps what there is; --ctx-size makes the context larger where the model was trained for it",
		}
	case err != nil:
		return requestFailure(err)
	case result.FinishReason == engine.FinishLength:
		c.note("cut after %d tokens: -n sets how many", result.Usage.Output)
	case result.FinishReason == engine.FinishContext:
		c.note("cut: the context of %d tokens is full; /reset begins anew", result.Usage.Prompt+result.Usage.Output)
	}
	return nil
}

// cancelOnInterrupt calls cancel at a Ctrl-C until ctx is done. stopped says, once
// and at the end, whether there was one.
func (c *chat) cancelOnInterrupt(ctx context.Context, cancel context.CancelFunc) (stopped func() bool) {
	select { // an older one is not meant
	case <-c.interrupts:
	default:
	}
	done := make(chan bool, 1)
	go func() {
		select {
		case <-c.interrupts:
			cancel()
			done <- true
		case <-ctx.Done():
			done <- false
		}
	}()
	return func() bool {
		cancel()
		return <-done
	}
}

// stream shows the answer as it comes, and returns as much of it as there was.
func (c *chat) stream(ctx context.Context) (answer string, result engine.Result, err error) {
	out, errOut := terminalText(c.std.out), terminalText(c.std.err)
	var text strings.Builder
	reasoning := false // shown, and no newline after it
	defer func() {
		answer = text.String()
		if answer != "" && !strings.HasSuffix(answer, "\n") {
			if _, e := io.WriteString(out, "\n"); e != nil {
				err = errors.Join(err, errOutput, e)
			}
		}
	}()
	for d, err := range c.engine.Chat(ctx, engine.ChatRequest{
		Messages: c.messages, MaxTokens: c.flags.maxTokens, Stop: c.flags.stop, Sampling: &c.flags.sampling.params,
	}) {
		if err != nil {
			return "", result, err
		}
		thought := d.Reasoning
		if reasoning = reasoning || thought != ""; reasoning && d.Content != "" {
			reasoning, thought = false, thought+"\n"
		}
		if _, err := io.WriteString(errOut, thought); err != nil {
			return "", result, errors.Join(errOutput, err)
		}
		if _, err := io.WriteString(out, d.Content); err != nil {
			return "", result, errors.Join(errOutput, err)
		}
		text.WriteString(d.Content)
		if d.Result != nil {
			result = *d.Result
		}
	}
	return "", result, nil
}
