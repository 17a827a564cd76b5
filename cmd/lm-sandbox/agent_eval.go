package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/lm-sandbox/lm-sandbox/agent"
	"github.com/lm-sandbox/lm-sandbox/agent/eval"
)

// evalLine is a line of 'agent --eval --json'.
type evalLine struct {
	Type   string `json:"type"` // task
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	doneFields
}

// rateLine is the last one.
type rateLine struct {
	Type   string `json:"type"` // rate
	Passed int    `json:"passed"`
	Tasks  int    `json:"tasks"`
	Model  string `json:"model"`
}

// evaluate does the tasks and prints each with its verdict, then the rate.
func (f *agentFlags) evaluate(ctx context.Context, std stdio, config agent.Config, model string) error {
	enc := json.NewEncoder(std.out)
	enc.SetEscapeHTML(false)
	show := func(line any, text string, args ...any) (err error) {
		if f.asJSON {
			err = enc.Encode(line)
		} else {
			_, err = fmt.Fprintf(std.out, text, args...)
		}
		if err != nil {
			return fmt.Errorf("writing to stdout: %w", err)
		}
		return nil
	}
	passed, tasks := 0, eval.Tasks()
	for _, task := range tasks {
		o, err := eval.Run(ctx, config, task)
		if err != nil {
			return agentFailure(err)
		}
		verdict := "no "
		if o.Passed {
			passed++
			verdict = "yes"
		}
		done := newDoneFields(agent.Done{Answer: o.Answer, Usage: o.Usage}, o.Err)
		if err := show(evalLine{"task", task.Name, o.Passed, done}, "%s  %s\n", verdict, task.Name); err != nil {
			return err
		}
	}
	return show(rateLine{"rate", passed, len(tasks), model}, "%d of %d (%s)\n", passed, len(tasks), model)
}
