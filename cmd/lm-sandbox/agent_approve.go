package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/agent"
)

// approval is the function that --approve names.
func (f *agentFlags) approval(std stdio) (func(context.Context, agent.Call) (bool, error), error) {
	switch f.approve {
	case "all":
		return nil, nil
	case "none":
		return func(context.Context, agent.Call) (bool, error) { return false, nil }, nil
	case "ask":
		if !isTerminal(std.in) {
			return nil, usage(errors.New("--approve ask needs a terminal on stdin"), "use --approve all or none")
		}
		input := newLines(std, nil, false)
		return func(ctx context.Context, c agent.Call) (bool, error) {
			if f.asJSON { // else it was shown
				fmt.Fprintf(terminalText(std.err), "$ %s\n", commandOf(c))
			}
			answer, _, err := input.next(ctx, "run it? [y/N] ")
			if errors.Is(err, io.EOF) {
				err = errors.New("the input has ended")
			}
			answer = strings.ToLower(strings.TrimSpace(answer))
			return answer == "y" || answer == "yes", err
		}, nil
	}
	return nil, usage(fmt.Errorf("--approve %q", f.approve), "want ask, all or none")
}
