package main

import (
	"context"
	"fmt"

	"github.com/lm-sandbox/lm-sandbox/agent"
	"github.com/lm-sandbox/lm-sandbox/agent/eval"
)

// evaluate does the tasks and prints each with its verdict, then the rate.
func (f *agentFlags) evaluate(ctx context.Context, std stdio, config agent.Config, model string) error {
	done, tasks := 0, eval.Tasks()
	for _, task := range tasks {
		outcome, err := eval.Run(ctx, config, task)
		if err != nil {
			return agentFailure(err)
		}
		verdict := "no "
		if outcome.Passed {
			done++
			verdict = "yes"
		}
		if _, err := fmt.Fprintf(std.out, "%s  %s\n", verdict, task.Name); err != nil {
			return fmt.Errorf("writing to stdout: %w", err)
		}
	}
	_, err := fmt.Fprintf(std.out, "%d of %d (%s)\n", done, len(tasks), model)
	return err
}
