package agent_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/agent"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

func ExampleRun() {
	ctx := context.Background()
	model, err := hub.Pull(ctx, "default", hub.Options{})
	if err != nil {
		log.Fatal(err)
	}
	e, err := engine.Open(ctx, model.Path, engine.Params{MaxSequences: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	config := agent.Config{
		Engine:  e,
		Sandbox: sandbox.Config{Workspace: "/srv/project"},
		Approve: func(_ context.Context, c agent.Call) (bool, error) {
			return !strings.Contains(string(c.Arguments), "rm "), nil
		},
	}
	for event, err := range agent.Run(ctx, config, "Print the last line of log.txt.") {
		if err != nil {
			log.Fatal(err)
		}
		switch ev := event.(type) {
		case agent.Result:
			fmt.Printf("%s %s: %s\n", ev.Call.Tool, ev.Call.Arguments, ev.Output)
		case agent.Done:
			fmt.Println(ev.Answer)
		}
	}
}

func ExampleFunc() {
	type city struct {
		Name string `json:"name" jsonschema:"the name of the city"`
	}
	tool := agent.Func("population", "Tell how many people live in a city.", func(_ context.Context, c city) (string, error) {
		if c.Name != "Paris" {
			return "", fmt.Errorf("%s is not known", c.Name) // the model is told
		}
		return "2,100,000", nil
	})
	fmt.Println(string(tool.Schema))
	// Output: {"type":"object","properties":{"name":{"type":"string","description":"the name of the city"}},"required":["name"],"additionalProperties":false}
}
