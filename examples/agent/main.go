// Command agent lets a language model do a task with bash in a sandbox.
//
//	go run ./examples/agent DIRECTORY 'Print the last line of log.txt.'
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/lm-sandbox/lm-sandbox/agent"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: agent DIRECTORY TASK")
		os.Exit(2)
	}
	if err := do(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

// do shows each command that the model runs in the directory, what came of it, and the answer.
func do(ctx context.Context, directory, task string) (err error) {
	model, err := hub.Pull(ctx, os.Getenv("LM_SANDBOX_MODEL"), hub.Options{})
	if err != nil {
		return err
	}
	e, err := engine.Open(ctx, model.Path, engine.Params{MaxSequences: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()

	// Nothing but the directory can be changed, and there is no network.
	config := agent.Config{Engine: e, Sandbox: sandbox.Config{Workspace: directory}}
	for event, err := range agent.Run(ctx, config, task) {
		if err != nil {
			return err
		}
		switch event := event.(type) {
		case agent.Call:
			fmt.Printf("calls %s %s\n", event.Tool, event.Arguments)
		case agent.Result:
			fmt.Println(event.Output)
		case agent.Done:
			fmt.Printf("> %s\n", event.Answer)
		}
	}
	return nil
}
