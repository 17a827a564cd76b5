package engine_test

import (
	"context"
	"fmt"
	"log"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// Requests with and without a LoRA adapter run beside each other.
func ExampleParams_adapters() {
	ctx := context.Background()
	e, err := engine.Open(ctx, "model.gguf", engine.Params{Adapters: map[string]string{"pirate": "pirate-lora.gguf"}})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	for d, err := range e.Generate(ctx, engine.Request{
		Prompt:   "Good morning",
		Adapters: []engine.AdapterScale{{Name: "pirate", Scale: 0.8}},
	}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(d.Text)
	}
}
