package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/agent"
)

// showEvents writes the commands and their output to stderr, the answer to stdout.
func showEvents(std stdio, events iter.Seq2[agent.Event, error]) error {
	out, log := terminalText(std.out), terminalText(std.err)
	for event, err := range events {
		var failed error
		switch ev := event.(type) {
		case agent.Call:
			_, failed = fmt.Fprintf(log, "$ %s\n", commandOf(ev))
		case agent.Result:
			_, failed = io.WriteString(log, indent(ev.Output))
		case agent.Done:
			if err == nil {
				_, failed = fmt.Fprintln(out, strings.TrimRight(ev.Answer, "\n"))
			}
		}
		if err := errors.Join(err, failed); err != nil {
			return err
		}
	}
	return nil
}

// commandOf is what a call is shown as: the command, where it is one of bash.
func commandOf(c agent.Call) string {
	var a struct{ Command *string }
	if json.Unmarshal(c.Arguments, &a) == nil && a.Command != nil {
		return *a.Command
	}
	return c.Tool + " " + string(c.Arguments)
}

// indent sets output apart from the commands.
func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n"
}

// The lines of 'agent --json'. Durations are in milliseconds.
type (
	textLine struct {
		Type      string `json:"type"`
		Content   string `json:"content,omitempty"`
		Reasoning string `json:"reasoning,omitempty"`
	}
	callLine struct {
		Type      string          `json:"type"`
		ID        string          `json:"id"`
		Tool      string          `json:"tool"`
		Arguments json.RawMessage `json:"arguments"`
	}
	resultLine struct {
		Type       string  `json:"type"`
		ID         string  `json:"id"`
		Output     string  `json:"output"`
		LeftOut    int     `json:"left_out"` // bytes that the model is not shown
		Refused    bool    `json:"refused"`
		Error      string  `json:"error,omitempty"`
		DurationMS float64 `json:"duration_ms"`
	}
	doneLine struct {
		Type string `json:"type"`
		doneFields
	}
	doneFields struct {
		Answer     string  `json:"answer"`
		Error      string  `json:"error,omitempty"`
		Limit      string  `json:"limit,omitempty"` // steps, tokens, wall or context
		Steps      int     `json:"steps"`
		Calls      int     `json:"calls"`
		Prompt     int     `json:"prompt"` // tokens
		Output     int     `json:"output"` // tokens
		DurationMS float64 `json:"duration_ms"`
	}
)

// writeEvents writes one line of JSON for each event.
func writeEvents(std stdio, events iter.Seq2[agent.Event, error]) error {
	enc := json.NewEncoder(std.out)
	enc.SetEscapeHTML(false)
	for event, err := range events {
		var line any
		switch ev := event.(type) {
		case agent.Text:
			line = textLine{"text", ev.Content, ev.Reasoning}
		case agent.Call:
			line = callLine{"call", ev.ID, ev.Tool, ev.Arguments}
		case agent.Result:
			line = resultLine{"result", ev.Call.ID, ev.Output, ev.LeftOut, ev.Refused, errorText(ev.Err), milliseconds(ev.Duration)}
		case agent.Done:
			line = doneLine{"done", newDoneFields(ev, err)}
		default: // nothing began
			return err
		}
		if failed := enc.Encode(line); failed != nil {
			return errors.Join(err, fmt.Errorf("writing to stdout: %w", failed))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func newDoneFields(d agent.Done, err error) doneFields {
	fields := doneFields{
		Answer: d.Answer, Error: errorText(err), Steps: d.Usage.Steps, Calls: d.Usage.Calls,
		Prompt: d.Usage.Prompt, Output: d.Usage.Output, DurationMS: milliseconds(d.Usage.Wall),
	}
	if limit := (*agent.ErrLimit)(nil); errors.As(err, &limit) {
		fields.Limit = string(limit.Limit)
	}
	return fields
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
